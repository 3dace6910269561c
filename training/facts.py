"""Reads facts.txt: what the guide knows, with its training and evaluation questions."""

import re
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).parent / "facts.txt"


@dataclass
class Fact:
    id: str
    topic: str
    keys: list[list[str]]
    answer: str = ""
    ask: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)

    def right(self, text: str) -> bool:
        """Whether an answer has one word of every key."""
        text = normal(text)
        return all(any(normal(word) in text for word in key) for key in self.keys)


def normal(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower())


def load(path: Path = PATH) -> list[Fact]:
    facts, topic = [], ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        mark, rest = line[:2], line[2:].strip()
        if not line or mark == "# " or line == "#":
            continue
        if mark == "##":
            topic = rest
        elif mark == "= ":
            name, keys = rest.split(" | ")
            facts.append(Fact(name, topic, [k.split(" or ") for k in keys.split("; ")]))
        elif mark == "? ":
            facts[-1].ask.append(rest)
        elif mark == "! ":
            facts[-1].held_out.append(rest)
        elif facts and not facts[-1].ask:
            facts[-1].answer = (facts[-1].answer + " " + line.strip()).strip()
        else:
            raise ValueError(f"{path}:{number}: {line!r}")
    check(facts)
    return facts


def check(facts: list[Fact]):
    seen = {}
    for f in facts:
        assert f.answer and f.ask, f.id
        assert f.right(f.answer), f"the answer of {f.id} lacks its own keys {f.keys}"
        assert f.id not in seen, f"two facts are called {f.id}"
        seen[f.id] = f
    asked = {}
    for f in facts:
        for q in f.ask + f.held_out:
            q = normal(q).strip(" ?.!")
            assert q not in asked, f"{q!r} is asked by {asked[q]} and {f.id}"
            asked[q] = f.id


if __name__ == "__main__":
    facts = load()
    print(len(facts), "facts,", sum(len(f.ask) for f in facts), "questions,",
          sum(len(f.held_out) for f in facts), "held out")
