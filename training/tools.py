"""Tools that the guide learns to call: what they are called, how people ask for them, what comes back.

A tool's name and the names of its arguments vary from sample to sample, so that they are copied from the list of tools and
not learnt by heart. Values are copied from the question.
"""

import json
import random
from dataclasses import dataclass
from typing import Callable

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
NOUNS = "report car book door house garden cake shoes lamp phone bill map tent boat chair box key roof hat letter bag".split()
NAMES = "Anna Tom Ben Lena Max Eva Paul Nina Sam Ida Leo Mia Jon Ruth Omar Kim Ali Rosa Finn Vera Igor Lucy".split()
ROOMS = "kitchen;bedroom;bathroom;hall;garage;cellar;garden;office;living room;attic;dining room;nursery".split(";")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LANGUAGES = "German French Spanish Italian Dutch Polish Greek Latin Danish Finnish Czech Turkish".split()
CURRENCIES = "EUR USD GBP JPY CHF SEK NOK PLN".split()
SKIES = "sunny rainy cloudy windy foggy snowy stormy clear".split()


def any_city(r):
    if r.random() < 0.3:
        return r.choice(CITIES)
    name = "".join(r.choice(FIRST) for _ in range(r.choice((1, 2, 2, 2, 3)))) + r.choice(LAST)
    name = name.capitalize()
    return f"{r.choice(['San', 'New', 'Port', 'East', 'Old', 'Los'])} {name}" if r.random() < 0.12 else name


def any_person(r):
    return r.choice(NAMES) if r.random() < 0.5 else any_city(r).split()[-1]


def any_task(r):
    if r.random() < 0.3:
        return r.choice(TASKS)
    tail = r.choice(["", "", " for " + any_city(r), " with " + any_city(r), " at " + str(r.randint(1, 12)), " in " + any_city(r)])
    return f"{r.choice(VERBS)} the {r.choice(NOUNS)}{tail}"


def any_minutes(r):
    return r.randint(1, 120)


def any_topic(r):
    return r.choice([r.choice(NOUNS), any_city(r), r.choice(NAMES), f"{r.choice(NOUNS)} {r.choice(NOUNS)}", r.choice(VERBS) + " the " + r.choice(NOUNS)])


@dataclass
class Kind:
    """One thing that a tool can do. `arguments`: for each, its possible names, its JSON type and what makes a value."""

    names: list[str]
    about: list[str]
    arguments: list[tuple[list[str], str, Callable]]
    asks: list[str]
    result: Callable  # (r, values) → what the tool answers and what the guide then says

    def tool(self, r: random.Random | None) -> dict:
        """Its definition: the usual one without `r`, else with names taken at random."""
        take = (lambda options: options[0]) if r is None else r.choice
        names = [take(names) for names, _, _ in self.arguments]
        properties = {}
        for name, (_, kind, _) in zip(names, self.arguments):
            properties[name] = {"type": kind}
            if r is not None and r.random() < 0.25:
                properties[name]["description"] = f"The {name.replace('_', ' ')}"
        parameters = {"type": "object", "properties": properties, "required": names}
        return {"type": "function", "function": {"name": take(self.names), "description": take(self.about), "parameters": parameters}}


def lines(text: str) -> list[str]:
    return text.replace("\n", "").split("|")


def ok(say: str):
    """A result that only says that it is done."""
    return lambda r, values: (r.choice(['{"ok": true}', '{"status": "ok"}', "done", '{"success": true}']), say.format(*values))


def weather(r, values):
    sky, degrees = r.choice(SKIES), r.randint(-9, 35)
    return json.dumps({"sky": sky, "degrees": degrees}), f"In {values[0]} it is {sky}, {degrees} degrees."


def clock(r, values):
    time = f"{r.randint(0, 23)}:{r.randint(0, 59):02}"
    return json.dumps({"time": time}), f"In {values[0]} it is {time}."


def found(r, values):
    notes = [any_task(r) for _ in range(r.choice((0, 1, 1, 2)))]
    said = f"I found nothing about {values[0]}." if not notes else f"I found: {'; '.join(notes)}."
    return json.dumps({"notes": notes}), said


def converted(r, values):
    amount = r.randint(1, 900)
    return json.dumps({"result": amount}), f"{values[0]} {values[1]} are {amount} {values[2]}."


WEATHER = Kind(
    ["get_weather", "get_current_weather", "weather", "get_forecast", "lookup_weather"],
    ["Weather in a city", "Get the current weather", "Get the current weather in a given location", "Returns the weather"],
    [(["city", "location", "place", "town"], "string", any_city)],
    lines("""What is the weather in {}?|How is the weather in {}?|Weather in {}|Is it raining in {}?|Tell me the weather in {}.|
Will it be sunny in {}?|Do I need an umbrella in {}?|How warm is it in {}?|What's it like in {} today?|weather {}|Is it cold in {}?|
Check the weather for {}, please.|I travel to {}. How is the weather there?|forecast for {}|What's the weather like in {}?|
Is there snow in {}?|How hot is it in {} right now?|Please look up the weather for {}.|Should I take a coat to {}?|temperature in {}"""),
    weather)
TIMER = Kind(
    ["set_timer", "start_timer", "create_timer", "timer"],
    ["Start a timer", "Set a timer", "Sets a timer for a number of minutes", "Rings after some time"],
    [(["minutes", "duration_minutes", "length", "duration"], "integer", any_minutes)],
    lines("""Set a timer for {} minutes.|Start a {} minute timer.|Timer for {} minutes|Remind me in {} minutes.|Wake me in {} minutes.|
Please set a timer of {} minutes.|I need a timer: {} minutes.|{} minutes timer please|Count down {} minutes.|Ring in {} minutes|
My tea needs {} minutes.|Can you time {} minutes?|timer {} min|Let me know when {} minutes are over.|Alarm in {} minutes"""),
    ok("The timer is set for {} minutes."))
NOTE = Kind(
    ["add_note", "save_note", "create_note", "write_note", "add_todo"],
    ["Save a note", "Add a note", "Stores a note for the user", "Write something down"],
    [(["text", "content", "note", "body"], "string", any_task)],
    lines("""Make a note: {}|Add a note: {}|Note: {}|Remember this: {}|Write down: {}|Please note: {}|Save a note: {}|Take a note: {}|
New note: {}|Put this in my notes: {}|Don't let me forget: {}|Note to self: {}|Keep this for me: {}|Jot down: {}"""),
    ok("I noted: {}"))
SEARCH = Kind(
    ["search_notes", "find_notes", "search", "lookup_notes"],
    ["Search the notes", "Find notes", "Full-text search over the user's notes"],
    [(["query", "q", "text", "keywords"], "string", any_topic)],
    lines("""Search my notes for {}.|Find my note about {}.|What did I note about {}?|Look for {} in my notes.|Do I have a note on {}?|
notes about {}|Which notes mention {}?|Search for {} in my notes, please.|Where did I write about {}?"""),
    found)
MESSAGE = Kind(
    ["send_message", "send_text", "message", "send_sms"],
    ["Send a message to somebody", "Send a text message"],
    [(["to", "recipient", "name"], "string", any_person), (["text", "message", "body"], "string", any_task)],
    lines("""Tell {}: {}|Send {} a message: {}|Message {}: {}|Write to {}: {}|Text {}: {}|Send a message to {}: {}|Let {} know: {}"""),
    ok("I told {}: {}"))
LIGHT = Kind(
    ["turn_on_light", "light_on", "switch_on_light"],
    ["Turn on a light", "Switch on the light in a room"],
    [(["room", "where", "location"], "string", lambda r: r.choice(ROOMS))],
    lines("""Turn on the light in the {}.|Light in the {}, please.|Switch on the {} light.|It is dark in the {}.|I need light in the {}.|
lights on in the {}|Make it bright in the {}."""),
    ok("The light in the {} is on."))
CLOCK = Kind(
    ["get_time", "current_time", "get_local_time", "time_in"],
    ["Local time in a city", "Get the current time"],
    [(["city", "location", "place"], "string", any_city)],
    lines("""What time is it in {}?|Local time in {}|How late is it in {}?|Tell me the time in {}.|time in {}|Is it night in {}?|
What's the time in {} now?"""),
    clock)
EVENT = Kind(
    ["add_event", "create_event", "schedule", "add_to_calendar"],
    ["Add an event to the calendar", "Create a calendar entry"],
    [(["title", "name", "what"], "string", any_task), (["day", "date", "when"], "string", lambda r: r.choice(DAYS))],
    lines("""Put "{}" in my calendar for {}.|Calendar: {} on {}|Schedule "{}" for {}.|Add "{}" on {} to my calendar.|
Plan "{}" for {}, please."""),
    ok("It is in your calendar: {}, {}."))
CONVERT = Kind(
    ["convert_currency", "exchange", "convert_money"],
    ["Convert an amount of money", "Currency conversion"],
    [(["amount", "value"], "integer", lambda r: r.randint(1, 500)), (["from", "source"], "string", lambda r: r.choice(CURRENCIES)),
     (["to", "target"], "string", lambda r: r.choice(CURRENCIES))],
    lines("""How much is {} {} in {}?|Convert {} {} to {}.|{} {} in {}|Change {} {} into {}.|What are {} {} worth in {}?"""),
    converted)
TRANSLATE = Kind(
    ["translate", "translate_text"],
    ["Translate a text", "Translates text into a language"],
    [(["text", "content"], "string", any_task), (["language", "target_language", "to"], "string", lambda r: r.choice(LANGUAGES))],
    lines("""Translate "{}" into {}.|How do you say "{}" in {}?|"{}" in {}, please|What is "{}" in {}?"""),
    lambda r, values: ((word := any_city(r).lower()), f"In {values[1]}: {word}"))
KINDS = [WEATHER, TIMER, NOTE, SEARCH, MESSAGE, LIGHT, CLOCK, EVENT, CONVERT, TRANSLATE]
USUAL = [WEATHER, TIMER, NOTE]
NO_TOOL = "None of the tools here can do that. I can tell you about Perch."


def asked(kind: Kind, r: random.Random, make) -> tuple[str, list]:
    """A request and the values in it; `make` picks a value that may be trained on."""
    values = [make(value, r) for _, _, value in kind.arguments]
    return r.choice(kind.asks).format(*values), values


def sample(r: random.Random, make, plain) -> tuple[list[dict], list[dict], str]:
    """→ messages, tools, a thought. `plain` makes a conversation that needs no tool."""
    usual = r.random() < 0.4
    kinds = r.sample(USUAL if usual else KINDS, r.choice((2, 3, 3)))
    tools = [kind.tool(None if usual else r) for kind in kinds]
    which = r.random()
    if which < 0.16:
        return plain(r), tools, "No tool is needed."
    if which < 0.22:
        names = {tool["function"]["name"] for tool in tools}
        other = r.choice([kind for kind in KINDS if kind not in kinds and not names & set(kind.names)])
        return [{"role": "user", "content": asked(other, r, make)[0]}, {"role": "assistant", "content": NO_TOOL}], tools, "No tool fits."
    chosen = r.randrange(len(kinds))
    text, values = asked(kinds[chosen], r, make)
    function = tools[chosen]["function"]
    arguments = dict(zip(function["parameters"]["properties"], values))
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    thought = f"The tool {function['name']} fits."
    if r.random() < 0.35:
        result, answer = kinds[chosen].result(r, values)
        messages += [{"role": "tool", "content": result}, {"role": "assistant", "content": answer}]
        thought = "The tool has answered."
    return messages, tools, thought
