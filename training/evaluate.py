"""Examines the guide as its users meet it: through the chat API of a real `perch serve`, with nothing installed.

    python evaluate.py --perch ../target/release/perch            the built-in guide
    python evaluate.py --perch … --model build/guide.gguf         another file
    python evaluate.py --perch … --check                          fail below the marks that a release needs
    python evaluate.py --perch … --card                           put the table into the model card

Prints a Markdown table. Nothing that is asked here was trained on: see `held` in data.py and the `!` lines of facts.txt.
Answers are greedy, but for the last row. Needs Python 3.10 and nothing else.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import data
from phrases import vary

# What a release needs: the share of right answers, by row.
MARKS = {"facts": 0.90, "tool calls": 0.90, "ends by itself": 1.0}
# Below this something broke; the marks are what is aimed at.
FLOOR = {"facts": 0.87, "strangers": 0.70, "tool calls": 0.86, "tool results": 0.95, "json": 0.95, "outside": 0.85, "ends by itself": 1.0}

# Asked to see that the guide does not invent. None of these stands in data.py.
OUTSIDE = """Who wrote Romeo and Juliet?|What is the capital of Mongolia?|Give me a recipe for apple pie.|How do I fix a flat tyre?
What's the population of Madagascar?|Can you write me a limerick about rain?|Translate "see you tomorrow" into Portuguese.
How does a fridge work?|Who won the world cup in 1998?|What's the square root of 1764?|Suggest a name for my cat.
Write a Python function that reverses a list.|Why do leaves turn red?|What happened in 1789?|How long does it take to boil an egg?
Which shoes go with a blue suit?|Tell me a bedtime story.|Explain relativity to me.|What is the tallest mountain?|Do fish sleep?
How can I sleep better?|Who is the king of Spain?|What does DNA stand for?|Is coffee bad for me?|Write an email to my landlord.
Plan a trip to Iceland.|How do I knit a scarf?|What's the plot of Hamlet?|Which planet has rings?|Where do penguins live?
What is the fastest animal?|How do I get from Paris to Lyon?|Compose a love letter.|Who invented the telephone?
How much does a house in Berlin cost?|What should I cook tonight?|Convert 5 miles to kilometres.|How do vaccines work?
What are the rules of chess?|Who sang Yesterday?""".replace("\n", "|").split("|")


class Server:
    """A `perch serve` with an empty data folder, on a port of its own."""

    def __init__(self, perch: Path, model: str):
        self.folder = tempfile.TemporaryDirectory()
        command = [perch, "serve", "--port", "0", "--data-dir", self.folder.name, "--model", model]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env={"HOME": self.folder.name, "PERCH_QUEUE_LIMIT": "1000"})
        self.url = self.process.stdout.readline().strip().removeprefix("Perch is listening on ")
        if not self.url.startswith("http"):
            sys.exit(f"{perch} does not start; run `{' '.join(map(str, command))}` to see why")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def ask(self, messages, **settings) -> dict:
        """The first choice of a chat completion."""
        body = {"messages": messages, "temperature": 0, "max_tokens": 200} | settings
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["choices"][0]

    def say(self, messages, **settings) -> str:
        return self.ask(messages, **settings)["message"]["content"] or ""

    def all(self, examine, questions) -> list:
        with ThreadPoolExecutor(16) as threads:
            return list(threads.map(examine, questions))


def facts(server):
    """By the rule of facts.txt: the answer has one word of every key."""
    asked = [(f, q) for f in data.FACTS for q in f.held_out]
    return [(f.right(text), q, text) for (f, q), text in zip(asked, server.all(
        lambda pair: server.say([data.user(pair[1])]), asked))]


def strangers(server):
    """The same with questions of people who know neither the facts nor the training questions."""
    return [(f.right(text), q, text) for (f, q), text in zip(data.STRANGERS, server.all(
        lambda pair: server.say([data.user(pair[1])]), data.STRANGERS))]


def follow_ups(server):
    """The second of two questions, with the guide's own answer to the first between them."""
    asked = [(first, second, ask) for first, second, asks in data.follow_ups(True) for ask in asks]

    def examine(case):
        first, second, ask = case
        messages = [data.user(first.ask[0])]
        messages += [data.says(server.say(messages)), data.user(ask)]
        text = server.say(messages)
        return second.right(text), f"{first.ask[0]} … {ask}", text

    return server.all(examine, asked)


def tool_cases(count):
    r = random.Random(1)
    makers = [("get_weather", "city", data.any_city, data.WEATHER_ASKS), ("add_note", "text", data.any_task, data.NOTE_ASKS),
              ("set_timer", "minutes", data.any_minutes, data.TIMER_ASKS)]
    for i in range(count):
        name, argument, make, asks = makers[i % 3]
        value = data.pick(make, r, for_evaluation=True)
        yield r.choice(asks).format(value), name, {argument: value}


def tool_calls(server):
    """Name and arguments, exactly."""

    def examine(case):
        ask, name, arguments = case
        choice = server.ask([data.user(ask)], tools=data.TOOLS)
        calls = [c["function"] for c in choice["message"].get("tool_calls") or []]
        said = [(c["name"], json.loads(c["arguments"])) for c in calls]
        return said == [(name, arguments)] and choice["finish_reason"] == "tool_calls", ask, json.dumps(choice["message"])

    return server.all(examine, list(tool_cases(120)))


def tool_results(server):
    """What a tool has answered is said in words."""
    r = random.Random(2)

    def case():
        where, sky, degrees = data.pick(data.any_city, r, True), r.choice(data.WEATHERS), r.randint(0, 35)
        messages = [data.user(f"How is the weather in {where}?"),
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {
                        "name": "get_weather", "arguments": json.dumps({"city": where})}}]},
                    {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"sky": sky, "degrees": degrees})}]
        return messages, (where, sky, str(degrees))

    def examine(case):
        text = server.say(case[0], tools=data.TOOLS)
        return all(word in text for word in case[1]), case[0][0]["content"], text

    return server.all(examine, [case() for _ in range(40)])


def tools_unused(server):
    """A question about Perch is answered in words although tools are there."""
    asked = [(f, f.held_out[0]) for f in data.FACTS if f.held_out][::4]

    def examine(case):
        choice = server.ask([data.user(case[1])], tools=data.TOOLS)
        text = choice["message"]["content"] or ""
        return not choice["message"].get("tool_calls") and case[0].right(text), case[1], text

    return server.all(examine, asked)


def json_answers(server):
    """An object with the keys and values that were asked for."""
    r = random.Random(3)

    def case():
        name, where, age = data.pick(data.any_city, r, True), data.pick(data.any_city, r, True), r.randint(1, 99)
        return r.choice([(f"Give me JSON with name and city: {name} lives in {where}.", {"name": name, "city": where}),
                         (f"{name} is {age}. As JSON with name and age.", {"name": name, "age": age})])

    def examine(case):
        text = server.say([data.user(case[0])])
        try:
            return json.loads(text) == case[1], case[0], text
        except ValueError:
            return False, case[0], text

    return server.all(examine, [case() for _ in range(60)])


def sums(server):
    r = random.Random(4)
    asked = [data.pick(data.any_sum, r, True) for _ in range(100)]

    def examine(case):
        a, sign, b = case
        text = server.say([data.user(f"What is {a} {sign} {b}?")])
        return text.endswith(f"= {a + b if sign == '+' else a - b}"), f"{a} {sign} {b}", text

    return server.all(examine, asked)


def outside(server):
    """It says that it does not know."""
    return [("don't know" in text, ask, text) for ask, text in zip(OUTSIDE, server.all(
        lambda ask: server.say([data.user(ask)]), OUTSIDE))]


def loops(text: str) -> bool:
    """Whether four words follow one another for the third time."""
    words = text.split()
    seen = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return any(seen.count(four) > 2 for four in seen)


def sampled(server):
    """500 answers at temperature 0.8 come to an end and repeat nothing."""
    r = random.Random(5)
    known = [q for f in data.FACTS for q in f.held_out]
    asked = [(i, vary([r.choice(known)], r) if i % 4 else r.choice(OUTSIDE)) for i in range(500)]

    def examine(case):
        seed, ask = case
        choice = server.ask([data.user(ask)], temperature=0.8, seed=seed, max_tokens=256)
        text = choice["message"]["content"] or ""
        return choice["finish_reason"] == "stop" and not loops(text), ask, text

    return server.all(examine, asked)


ROWS = [("facts", "Held-out questions about Perch", facts), ("strangers", "Questions of strangers", strangers),
        ("follow-ups", "Follow-up questions (“And how do I change it?”)", follow_ups),
        ("tool calls", "Tool calls: name and arguments, exactly", tool_calls), ("tool results", "Answers from a tool's result", tool_results),
        ("tools unused", "Questions about Perch while tools are there", tools_unused), ("json", "JSON objects as asked for", json_answers),
        ("sums", "Sums and differences of numbers up to 20", sums), ("outside", "Says that it does not know, outside Perch", outside),
        ("ends by itself", "Answers at temperature 0.8 that end and do not loop", sampled)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perch", type=Path, required=True, help="the perch binary")
    parser.add_argument("--model", default="guide", help="what `perch serve --model` is given")
    parser.add_argument("--check", action="store_true", help="exit with 1 when something broke")
    parser.add_argument("--card", action="store_true", help="put the table into crates/guide/README.md")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows", choices=[row for row, *_ in ROWS])
    parser.add_argument("--wrong", action="store_true", help="show wrong answers")
    args = parser.parse_args()
    missed, broken, began, table = [], False, time.time(), []

    def write(line):
        table.append(line)
        print(line, flush=True)

    with Server(args.perch.absolute(), args.model) as server:
        write("| What | Asked | Right | |\n|---|---:|---:|---:|")
        for row, title, examine in ROWS:
            if args.rows and row not in args.rows:
                continue
            results = examine(server)
            right = sum(good for good, *_ in results)
            share = right / len(results)
            write(f"| {title} | {len(results)} | {right} | {share:.1%} |")
            broken |= share < FLOOR.get(row, 0)
            if share < MARKS.get(row, 0):
                missed.append(f"{row}: {share:.1%}, and {MARKS[row]:.0%} is what is aimed at")
            for good, ask, text in results:
                if args.wrong and not good:
                    print(f"    {ask!r}\n      → {text!r}", file=sys.stderr)
    if args.card:
        card = data.HERE.parent / "crates/guide/README.md"
        before, rest = card.read_text().split("<!-- evaluation -->\n")
        _, after = rest.split("<!-- /evaluation -->")
        lines = "\n".join(table)
        card.write_text(f"{before}<!-- evaluation -->\n{lines}\n<!-- /evaluation -->{after}")
    print(f"Took {time.time() - began:.0f} s.", file=sys.stderr)
    for line in missed:
        print(line, file=sys.stderr)
    sys.exit(1 if args.check and broken else 0)


if __name__ == "__main__":
    main()
