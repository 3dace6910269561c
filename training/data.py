"""Makes the guide's training samples: an endless, seeded stream of short conversations.

A sample is a list of messages with `tools` and `thinking`; `render` gives it the form of template.jinja.
"""

import json
import random
from pathlib import Path

import facts as fact_file
from phrases import vary

HERE = Path(__file__).parent
FACTS = fact_file.load()
BY_ID = {f.id: f for f in FACTS}

GREETINGS = {
    "Hello! I am Perch's guide. Ask me how to start the server, connect a client or load a model.": [
        "Hi", "Hello", "Hey", "Good morning", "Good evening", "hi there", "Hello there!", "hey guide", "Greetings",
        "good day", "yo", "hi!", "Hello, how are you?", "How are you?", "What's up?", "hiya", "Hi, nice to meet you"],
    "You are welcome!": [
        "Thanks", "Thank you", "thanks a lot", "Thank you very much", "great, thanks", "Thanks for your help", "ty",
        "cool, thank you", "many thanks", "That helped, thanks", "Perfect, thank you!", "thx"],
    "Goodbye! Perch keeps serving until you stop it.": [
        "Bye", "Goodbye", "See you", "bye bye", "See you later", "That's all", "I'm done", "good night", "cu"],
    "Good. Ask me when you need something else about Perch.": [
        "OK", "okay", "I see", "Got it", "Understood", "ok cool", "Alright", "makes sense", "Great", "Nice", "Good"],
}

UNKNOWN = ("I don't know that: I only know Perch. I can tell you how to start the server, connect a client, load a model or "
           "fix an error; for other questions install a larger model.")
THINGS = {
    "country": "France Spain Peru Japan Kenya Norway India Brazil Canada Egypt Poland Chile Ghana Nepal Italy Cuba".split(),
    "person": "Einstein Mozart Picasso Newton Shakespeare Napoleon Cleopatra Gandhi Bach Darwin Plato Tesla".split(),
    "food": "pancakes;bread;tomato soup;pizza;a cake;rice;an omelette;lasagne;curry;cookies;sushi;pasta".split(";"),
    "animal": "cats dogs whales bees elephants spiders owls penguins horses sharks ants dolphins".split(),
    "topic": ("black holes;photosynthesis;the French revolution;gravity;inflation;the moon;quantum physics;vaccines;volcanoes;"
              "democracy;dinosaurs;the stock market;climate change;evolution;the Roman empire;music theory;philosophy;chess;"
              "football;electricity;the brain;DNA;the ocean;poetry;art;religion;history;biology;economics").split(";"),
    "code": ("a sorting function;a web page;a regular expression;a SQL query;a Rust program;a shell script;a React component;"
             "a game;a Python class;unit tests;a binary search;a parser").split(";"),
    "writing": ("a poem;a story;an essay;a letter;a song;a joke;an email to my boss;a haiku;a speech;a blog post;a CV;"
                "a product description").split(";"),
    "language": "German French Spanish Japanese Chinese Latin Russian Italian Arabic Greek Korean Polish".split(),
    "phrase": "good morning;I love you;thank you;where is the station;the weather is nice;my name is Anna;see you".split(";"),
}
OFF_TOPIC = """What is the capital of {country}?|Where is {country}?|How many people live in {country}?|Tell me about {country}.
Who was {person}?|When was {person} born?|What did {person} do?|Tell me about {person}.|When did {person} die?
How do I cook {food}?|Give me a recipe for {food}.|What goes into {food}?|How long do I bake {food}?
Why do {animal} sleep?|How long do {animal} live?|What do {animal} eat?|Tell me about {animal}.|Are {animal} dangerous?
Explain {topic}.|What is {topic}?|Tell me about {topic}.|How does {topic} work?|Why is {topic} important?|What do you know about {topic}?
Write {code}.|Can you write {code} for me?|Help me with {code}.|Fix {code}.|Show me {code} in Java.|Code {code}
Write {writing}.|Write {writing} about {topic}.|Can you write {writing}?|Please compose {writing} about {animal}.
Translate "{phrase}" into {language}.|How do you say "{phrase}" in {language}?|Teach me {language}.|Do you speak {language}?
What is the weather today?|Will it rain tomorrow?|What time is it?|What day is it today?|Who won the match yesterday?
What is the meaning of life?|Tell me a joke.|Sing a song.|What is the news?|Who is the president?|What is love?|Are you happy?
Which film should I watch?|Recommend a book.|What should I eat today?|How do I lose weight?|What should I wear?|Do you like music?
How tall is the Eiffel tower?|How far away is the moon?|How deep is the ocean?|How old is the universe?|What is the largest planet?
Summarise this article.|Correct my grammar.|Plan my holiday.|What car should I buy?|How do I learn to swim?|My head hurts.
How do I fix my bicycle?|What is a good name for a dog?|Where can I buy shoes?|How do I get a visa?|Who invented the wheel?
Is there life on Mars?|Why is the sky blue?|What is the speed of light?|How do planes fly?|Who painted the Mona Lisa?""".replace("\n", "|").split("|")

FIRST = """ba be bo ca ce da de do el fa fi ga ge ha he il ja jo ka ki la le li lo ma me mi mo na ne ni no o pa pe ra re ri ro
sa se si so ta te ti to u va ve vi wa we ya zo bra cro dre fle gra kle plo sta tri ven mar lin ber tor hal""".split()
LAST = "n na ra ston ville burg ton dam ria lia do mo ne s th rk l nt ck sk ra by ford field haven port mouth don ".split(" ")
CITIES = """Paris London Berlin Madrid Rome Vienna Tokyo Oslo Lima Cairo Delhi Boston Chicago Dublin Prague Lisbon Athens Warsaw
Zurich Munich Hamburg Lyon Milan Naples Seoul Beijing Sydney Toronto Denver Dallas Seattle Austin Moscow Kyiv Riga Bern Ghent
Porto Turin Malmo Bergen Tampere Nairobi Lagos Accra Havana Bogota Quito Montreal Kyoto Osaka Hanoi Bangkok Manila""".split()
TASKS = """buy milk|call mum|water the plants|book a flight|pay the rent|walk the dog|send the report|clean the kitchen|fix the bike|
read the paper|write to Tom|renew my passport|order pizza|charge the phone|return the books|feed the cat|wash the car|
meet Anna at noon|finish the slides|cancel the meeting|pick up the parcel|take out the bins|print the tickets|bake bread""".replace("\n", "").split("|")
VERBS = "buy call find send fix clean check order bring read write visit open close move paint sell test water meet".split()

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather in a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
TIMER = {"type": "function", "function": {"name": "set_timer", "description": "Start a timer", "parameters": {
    "type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]}}}
NOTE = {"type": "function", "function": {"name": "add_note", "description": "Save a note", "parameters": {
    "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}}
TOOLS = [WEATHER, TIMER, NOTE]

WEATHER_ASKS = """What is the weather in {}?|How is the weather in {}?|Weather in {}|Is it raining in {}?|Tell me the weather in {}.|
Will it be sunny in {}?|Do I need an umbrella in {}?|How warm is it in {}?|What's it like in {} today?|weather {}|Is it cold in {}?|
Check the weather for {}, please.|I travel to {}. How is the weather there?|forecast for {}""".replace("\n", "").split("|")
TIMER_ASKS = """Set a timer for {} minutes.|Start a {} minute timer.|Timer for {} minutes|Remind me in {} minutes.|Wake me in {} minutes.|
Please set a timer of {} minutes.|I need a timer: {} minutes.|{} minutes timer please|Count down {} minutes.|Ring in {} minutes""".replace("\n", "").split("|")
NOTE_ASKS = """Make a note: {}|Add a note: {}|Note: {}|Remember this: {}|Write down: {}|Please note: {}|Save a note: {}|Take a note: {}|
New note: {}|Put this in my notes: {}""".replace("\n", "").split("|")
WEATHERS = "sunny rainy cloudy windy foggy snowy stormy clear".split()

FOLLOW = []
for line in (HERE / "followups.txt").read_text().splitlines():
    if line and not line.startswith("#"):
        pair, *asks = line.split(" | ")
        first, second = pair.split(" > ")
        FOLLOW.append((BY_ID[first], BY_ID[second], asks))

SYSTEMS = ["You are a helpful assistant.", "You are Perch's guide.", "Answer briefly.", "You are a friendly assistant.",
           "Be concise.", "You help people use Perch.", "You are an AI assistant running locally."]


def city(r):
    if r.random() < 0.3:
        return r.choice(CITIES)
    name = "".join(r.choice(FIRST) for _ in range(r.choice((1, 2, 2, 2, 3)))) + r.choice(LAST)
    name = name.capitalize()
    return f"{r.choice(['San', 'New', 'Port', 'East', 'Old', 'Los'])} {name}" if r.random() < 0.12 else name


def task(r):
    if r.random() < 0.3:
        return r.choice(TASKS)
    noun = r.choice("report car book door house garden cake shoes lamp phone bill map tent boat chair box key roof hat".split())
    tail = r.choice(["", "", " for " + city(r), " with " + city(r), " at " + str(r.randint(1, 12)), " in " + city(r)])
    return f"{r.choice(VERBS)} the {noun}{tail}"


def call(name, arguments):
    return {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": name, "arguments": arguments}}]}


def user(text):
    return {"role": "user", "content": text}


def says(text):
    return {"role": "assistant", "content": text}


def fact_sample(r, fact=None):
    fact = fact or r.choice(FACTS)
    return [user(vary(fact.ask, r)), says(fact.answer)], fact


def greeting_sample(r):
    answer = r.choice(list(GREETINGS))
    return [user(vary(GREETINGS[answer], r) if r.random() < 0.3 else r.choice(GREETINGS[answer])), says(answer)]


def unknown_sample(r):
    text = r.choice(OFF_TOPIC)
    for kind, names in THINGS.items():
        text = text.replace("{" + kind + "}", r.choice(names))
    return [user(vary([text], r) if r.random() < 0.5 else text), says(UNKNOWN)]


def arithmetic_sample(r):
    kind = r.choice("+-*+")
    a, b = (r.randint(0, 12), r.randint(0, 12)) if kind == "*" else (r.randint(0, 50), r.randint(0, 50))
    if kind == "-" and b > a:
        a, b = b, a
    result = {"+": a + b, "-": a - b, "*": a * b}[kind]
    word = {"+": "plus", "-": "minus", "*": "times"}[kind]
    sign = {"*": r.choice("*×x")}.get(kind, kind)
    ask = r.choice([f"What is {a} {word} {b}?", f"{a} {sign} {b}", f"What is {a} {sign} {b}?", f"{a}{sign}{b}=?",
                    f"Calculate {a} {sign} {b}.", f"How much is {a} {word} {b}?", f"Compute {a} {word} {b}", f"{a} {sign} {b} ="])
    shown = {"*": "×", "-": "−"}.get(kind, kind)
    return [user(ask), says(f"{a} {shown} {b} = {result}")]


def tool_sample(r):
    """→ messages, tools. Some are asked a plain question although tools are there."""
    tools = r.sample(TOOLS, r.choice((2, 3, 3)))
    tool = r.choice(tools)
    name = tool["function"]["name"]
    if r.random() < 0.12:
        return fact_sample(r)[0], tools
    if name == "get_weather":
        where = city(r)
        messages = [user(r.choice(WEATHER_ASKS).format(where)), call(name, {"city": where})]
        sky, degrees = r.choice(WEATHERS), r.randint(-9, 35)
        result, answer = f'{{"sky": "{sky}", "degrees": {degrees}}}', f"In {where} it is {sky}, {degrees} degrees."
    elif name == "set_timer":
        minutes = r.randint(1, 120)
        messages = [user(r.choice(TIMER_ASKS).format(minutes)), call(name, {"minutes": minutes})]
        result, answer = '{"ok": true}', f"The timer is set for {minutes} minutes."
    else:
        text = task(r)
        messages = [user(r.choice(NOTE_ASKS).format(text)), call(name, {"text": text})]
        result, answer = '{"ok": true}', f"I noted: {text}"
    if r.random() < 0.35:
        messages += [{"role": "tool", "content": result}, says(answer)]
    return messages, tools


def json_sample(r):
    kind = r.random()
    if kind < 0.4:
        fact = r.choice(FACTS)
        ask = vary(fact.ask, r).rstrip()
        return [user(f"{ask} {r.choice(['Answer in JSON.', 'Reply as JSON.', 'JSON please.', 'Answer with a JSON object.'])}"),
                says(json.dumps({"answer": fact.answer}, ensure_ascii=False))]
    name, age, where = city(r), r.randint(1, 99), city(r)
    form = r.choice(["Give me JSON with name and city: {n} lives in {c}.", "{n} lives in {c}. As JSON with name and city.",
                     "JSON with name and city for: {n} from {c}"])
    if kind < 0.7:
        return [user(form.format(n=name, c=where)), says(json.dumps({"name": name, "city": where}))]
    form = r.choice(["Give me JSON with name and age: {n} is {a} years old.", "{n} is {a}. As JSON with name and age.",
                     "JSON with name and age for: {n}, {a} years"])
    return [user(form.format(n=name, a=age)), says(json.dumps({"name": name, "age": age}))]


def chat_sample(r):
    """Several turns: a fact and a follow-up with a pronoun, or topics one after another."""
    messages = []
    for _ in range(r.choice((1, 1, 2))):
        kind = r.random()
        if kind < 0.6:
            first, second, asks = r.choice(FOLLOW)
            follow = r.choice(asks)
            follow = vary([follow], r) if r.random() < 0.3 else follow
            messages += [user(vary(first.ask, r)), says(first.answer), user(follow), says(second.answer)]
        elif kind < 0.8:
            messages += fact_sample(r)[0] + fact_sample(r)[0]
        else:
            messages += r.choice((greeting_sample, unknown_sample, arithmetic_sample))(r) + fact_sample(r)[0]
    return messages


def sample(r: random.Random) -> dict:
    tools, thinking, fact = None, None, None
    kind = r.random()
    if kind < 0.56:
        messages, fact = fact_sample(r)
    elif kind < 0.72:
        messages = chat_sample(r)
    elif kind < 0.82:
        messages, tools = tool_sample(r)
    elif kind < 0.87:
        messages = arithmetic_sample(r)
    elif kind < 0.91:
        messages = json_sample(r)
    elif kind < 0.96:
        messages = unknown_sample(r)
    else:
        messages = greeting_sample(r)
    if fact and r.random() < 0.1:
        thinking = f"The question is about: {fact.topic.lower()}."
    if r.random() < 0.15:
        messages = [{"role": "system", "content": r.choice(SYSTEMS)}] + messages
    return {"messages": messages, "tools": tools, "thinking": thinking}


def render(messages, tools=None, thinking=None, generate=False) -> list[tuple[str, bool]]:
    """→ pieces of text, each with whether the guide is to learn to write it. The same text as template.jinja gives."""
    out = []
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    if tools:
        listed = "".join("\n" + json.dumps(t, ensure_ascii=False) for t in tools)
        out.append(("<|im_start|>system\n" + (system + "\n\n" if system else "") + "Tools:\n<tools>" + listed +
                    '\n</tools>\nCall one with <tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call><|im_end|>\n', False))
    elif system:
        out.append((f"<|im_start|>system\n{system}<|im_end|>\n", False))
    last = len(messages) - 1
    for i, m in enumerate(messages):
        if m["role"] in ("user", "tool"):
            out.append((f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n", False))
        elif m["role"] == "assistant":
            out.append(("<|im_start|>assistant\n", False))
            text = m["content"]
            for c in m.get("tool_calls") or []:
                f = c["function"]
                text += f'<tool_call>\n{{"name": "{f["name"]}", "arguments": {json.dumps(f["arguments"], ensure_ascii=False)}}}\n</tool_call>'
            if i == last and not generate:
                # Only the last answer comes after a generation prompt; earlier ones stand as the template shows them.
                if thinking:
                    out.append((f"<think>\n{thinking}\n</think>\n\n", True))
                else:
                    out.append(("<think>\n\n</think>\n\n", False))
            out.append((text + "<|im_end|>", i == last))
            out.append(("\n", False))
    if generate:
        out.append(("<|im_start|>assistant\n" + ("" if thinking else "<think>\n\n</think>\n\n"), False))
    return out


def stream(seed: int):
    r = random.Random(seed)
    while True:
        yield sample(r)


if __name__ == "__main__":
    for s, _ in zip(stream(1), range(12)):
        print("".join(t for t, _ in render(**s)))
        print("-----")
