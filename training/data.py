"""Makes the guide's training samples: an endless, seeded stream of short conversations.

A sample is a list of messages with `tools` and `thinking`; `render` gives it the form of template.jinja.

What the evaluation asks about is never trained on: held-out questions stand in facts.txt, held-out names, tasks, numbers
and sums are those that `held` picks.
"""

import json
import random
import zlib
from pathlib import Path

import facts as fact_file
import smalltalk
import tools as tool_box
from phrases import vary
from smalltalk import GREETINGS
from tools import NOTE, SKIES, TIMER, USUAL, WEATHER, any_city, any_minutes, any_task

HERE = Path(__file__).parent
FACTS = fact_file.load()
BY_ID = {f.id: f for f in FACTS}
STRANGERS = fact_file.blind(FACTS)

# What the evaluation asks for: tools under their usual names.
TOOLS = [kind.tool(None) for kind in USUAL]
WEATHER_ASKS, TIMER_ASKS, NOTE_ASKS, WEATHERS = WEATHER.asks, TIMER.asks, NOTE.asks, SKIES


def held(text) -> bool:
    """Whether an argument or a sum is kept for the evaluation: one in ten, always the same ones."""
    return zlib.crc32(str(text).lower().encode()) % 10 == 0


def follow_ups(for_evaluation=False):
    """Pairs of facts, and questions that lead from the first to the second."""
    out = []
    for line in (HERE / "followups.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pair, *asks = line.split(" | ")
            first, second = pair.split(" > ")
            asks = [ask for ask in asks if held(f"{pair}: {ask}") == for_evaluation]
            if asks:
                out.append((BY_ID[first], BY_ID[second], asks))
    return out


FOLLOW = follow_ups()

SYSTEMS = ["You are a helpful assistant.", "You are Perch's guide.", "Answer briefly.", "You are a friendly assistant.",
           "Be concise.", "You help people use Perch.", "You are an AI assistant running locally."]


def pick(make, r, for_evaluation=False):
    """The first thing that `make` makes which may be trained on, or which may not."""
    while True:
        made = make(r)
        if held(made) == for_evaluation:
            return made


def city(r):
    return pick(any_city, r)


def task(r):
    return pick(any_task, r)


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
    """Something that the guide does not know, and says so."""
    text, answer = smalltalk.unknown(r)
    varied = vary([text], r) if r.random() < 0.5 else text
    return [user(text if "perch" in varied.lower() else varied), says(answer)]


def any_sum(r):
    """A sum or a difference, as (a, sign, b). Products are a table to be learnt, and none of it is held out."""
    sign, a, b = r.choice("+-"), r.randint(0, 20), r.randint(0, 20)
    return (max(a, b), sign, min(a, b)) if sign == "-" else (a, sign, b)


def arithmetic_sample(r):
    a, kind, b = (r.randint(0, 12), "*", r.randint(0, 12)) if r.random() < 0.25 else pick(any_sum, r)
    result = {"+": a + b, "-": a - b, "*": a * b}[kind]
    word = {"+": "plus", "-": "minus", "*": "times"}[kind]
    sign = {"*": r.choice("*×x")}.get(kind, kind)
    ask = r.choice([f"What is {a} {word} {b}?", f"{a} {sign} {b}", f"What is {a} {sign} {b}?", f"{a}{sign}{b}=?",
                    f"Calculate {a} {sign} {b}.", f"How much is {a} {word} {b}?", f"Compute {a} {word} {b}", f"{a} {sign} {b} ="])
    shown = {"*": "×", "-": "−"}.get(kind, kind)
    return [user(ask), says(f"{a} {shown} {b} = {result}")]


def tool_sample(r):
    """→ messages, tools, a thought. Some are asked a plain question although tools are there."""

    def plain(r):
        return unknown_sample(r) if r.random() < 0.3 else fact_sample(r)[0]

    return tool_box.sample(r, pick, plain)


def repeat_sample(r):
    """Words to be said again. Copying is what tool calls and JSON are made of, and this is the shortest way to learn it."""
    makers = [task, city, lambda r: f"{task(r)} and {task(r)}", lambda r: " ".join(city(r) for _ in range(r.randint(2, 4))),
              lambda r: " ".join(str(r.randint(0, 999)) for _ in range(r.randint(1, 5))), lambda r: r.choice(FACTS).answer.split(". ")[0]]
    text = r.choice(makers)(r)
    ask = r.choice(["Repeat: {}", "Say: {}", "Repeat after me: {}", 'Say "{}".', "Please repeat: {}", "Echo: {}", "Copy this: {}", 'Write "{}".',
                    "repeat {}", "Say this again: {}"])
    return [user(ask.format(text)), says(text)]


def json_asks(r):
    """→ what is told, as a sentence, and the object that says the same."""
    name, where, to, age = city(r), city(r), city(r), r.randint(1, 99)
    noun, price = r.choice(tool_box.NOUNS), r.randint(1, 200)
    return r.choice([
        (f"{name} lives in {where}.", {"name": name, "city": where}), (f"{name} is from {where}.", {"name": name, "city": where}),
        (f"{name} is {age} years old.", {"name": name, "age": age}), (f"{name} is {age}.", {"name": name, "age": age}),
        (f"{name}, {age}, lives in {where}.", {"name": name, "age": age, "city": where}),
        (f"A {noun} costs {price} euros.", {"product": noun, "price": price}),
        (f"The {noun} is {price} euros at {name}'s.", {"product": noun, "price": price, "shop": name}),
        (f"The train goes from {where} to {to}.", {"from": where, "to": to}),
        (f"{name} likes {where} and {to}.", {"name": name, "likes": [where, to]}),
    ])


def json_sample(r):
    """An answer as JSON: a fact, or what a sentence tells under the keys that are asked for."""
    if r.random() < 0.3:
        fact = r.choice(FACTS)
        ask = vary(fact.ask, r).rstrip()
        wish = r.choice(["Answer in JSON.", "Reply as JSON.", "JSON please.", "Answer with a JSON object.", "As JSON with answer.",
                         "Answer with JSON: {\"answer\": …}"])
        return [user(f"{ask} {wish}"), says(json.dumps({"answer": fact.answer}, ensure_ascii=False))]
    told, wanted = json_asks(r)
    keys = list(wanted)
    if r.random() < 0.2:
        r.shuffle(keys)
        wanted = {key: wanted[key] for key in keys}
    named = ", ".join(keys[:-1]) + " and " + keys[-1]
    bare = told.rstrip(".")
    ask = r.choice([f"Give me JSON with {named}: {told}", f"{told} As JSON with {named}.", f"JSON with {named} for: {bare}",
                    f"Extract {named} as JSON: {told}", f"{told} Reply with a JSON object with the keys {named}.",
                    f"Turn this into JSON with {named}: {told}", f"{told}\n\nJSON, keys: {', '.join(keys)}", f"json {' '.join(keys)}: {bare}"])
    return [user(ask), says(json.dumps(wanted))]


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
    tools, thought = None, None
    kind = r.random()
    care = 1
    if kind < 0.50:
        messages, fact = fact_sample(r)
        thought = f"The question is about: {fact.topic.lower()}."
    elif kind < 0.64:
        messages = chat_sample(r)
    elif kind < 0.74:
        messages, tools, thought = tool_sample(r)
        care = CARE if any(m.get("tool_calls") for m in messages) else 1
    elif kind < 0.80:
        messages, thought, care = repeat_sample(r), "This is to be repeated.", CARE
    elif kind < 0.86:
        messages, thought, care = arithmetic_sample(r), "This is a sum.", CARE
    elif kind < 0.91:
        messages, thought, care = json_sample(r), "The answer is to be JSON.", CARE
    elif kind < 0.96:
        messages, thought = unknown_sample(r), "The question is not about Perch."
    else:
        messages, thought = greeting_sample(r), "This is small talk."
    thinking = thought if r.random() < 0.1 else None
    if r.random() < 0.15:
        messages = [{"role": "system", "content": r.choice(SYSTEMS)}] + messages
    return {"messages": messages, "tools": tools, "thinking": thinking, "care": care}


# How much more the words of an answer count that are copied or worked out: there are few of them, and each has to be right.
CARE = 5


def render(messages, tools=None, thinking=None, generate=False, care=1) -> list[tuple[str, int]]:
    """→ pieces of text, each with how much it counts that the guide learns to write it, 0 for not at all. The same text as
    template.jinja gives."""
    out = []
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    if tools:
        listed = "".join("\n" + json.dumps(t, ensure_ascii=False) for t in tools)
        out.append(("<|im_start|>system\n" + (system + "\n\n" if system else "") + "Tools:\n<tools>" + listed +
                    '\n</tools>\nCall one with <tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call><|im_end|>\n', 0))
    elif system:
        out.append((f"<|im_start|>system\n{system}<|im_end|>\n", 0))
    last = len(messages) - 1
    for i, m in enumerate(messages):
        if m["role"] in ("user", "tool"):
            out.append((f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n", 0))
        elif m["role"] == "assistant":
            out.append(("<|im_start|>assistant\n", 0))
            text = m["content"]
            for c in m.get("tool_calls") or []:
                f = c["function"]
                text += f'<tool_call>\n{{"name": "{f["name"]}", "arguments": {json.dumps(f["arguments"], ensure_ascii=False)}}}\n</tool_call>'
            if i == last and not generate:
                # Only the last answer comes after a generation prompt; earlier ones stand as the template shows them.
                if thinking:
                    out.append((f"<think>\n{thinking}\n</think>\n\n", 1))
                else:
                    out.append(("<think>\n\n</think>\n\n", 0))
            out.append((text + "<|im_end|>", 0 if generate else care))
            out.append(("\n", 0))
    if generate:
        out.append(("<|im_start|>assistant\n" + ("" if thinking else "<think>\n\n</think>\n\n"), 0))
    return out


def stream(seed: int):
    r = random.Random(seed)
    while True:
        yield sample(r)


if __name__ == "__main__":
    for s, _ in zip(stream(1), range(12)):
        print("".join(t for t, _ in render(**s)))
        print("-----")
