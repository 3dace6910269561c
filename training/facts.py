"""Reads facts.txt: what the guide knows, with its training and evaluation questions. Run, it checks them and prints a summary.

What must hold is checked at every load: ids, keys, lengths, questions that occur twice. What only a person can judge, such
as questions of two facts that are alike, is printed by `python facts.py`, which fails where there are any.
"""

import math
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).parent / "facts.txt"
BLIND = Path(__file__).parent / "blind.txt"
MOST_WORDS = 45
LEAST_ASKED, MOST_ASKED, HELD_OUT = 9, 48, 2
STOP_WORDS = set("""a an the is are am do does did can could would should will may must i me my you your it its to of in on for with
and or what which how when where why who there this that these be been if have has had get got was were not no any from as at by
perch so us we he they them then than""".split())


@dataclass
class Fact:
    """Something the guide knows. `keys`: a right answer has one word of each of these lists."""

    id: str
    topic: str
    keys: list[list[str]]
    answer: str = ""
    ask: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)

    def right(self, text: str) -> bool:
        """Whether an answer has one word of every key, as a word or the beginning of one."""
        text = normal(text)
        return all(any(has(text, normal(word)) for word in key) for key in self.keys)


def has(text: str, word: str) -> bool:
    return re.search((r"(?<!\w)" if word[0].isalnum() else "") + re.escape(word), text) is not None


def normal(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower())


def plain(question: str) -> str:
    """A question without case, punctuation between words and contractions: what two askers would call the same."""
    text = normal(question).replace("’", "'")
    for short, full in (("what's", "what is"), ("where's", "where is"), ("can't", "cannot"), ("n't", " not"), ("i'm", "i am")):
        text = text.replace(short, full)
    return " ".join(w for w in (w.strip("?!.,;:()\"'") for w in text.split()) if w)


def stem(word: str) -> str:
    for end in ("ing", "ed", "es", "s"):
        if len(word) > len(end) + 3 and word.endswith(end):
            return word[: -len(end)]
    return word


def bare(question: str) -> list[str]:
    """A question's words without those that never change what is meant."""
    return [stem(w) for w in plain(question).split() if w not in ("a", "an", "the", "is", "are", "do", "does", "of", "to", "please")]


def content(question: str) -> tuple[str, ...]:
    """The words that carry a question's meaning, in no order."""
    words = [w for w in plain(question).split() if w not in STOP_WORDS]
    return tuple(sorted({stem(w) for w in words}))


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
    wrong = faults(facts)
    if wrong:
        raise ValueError(f"{path}:\n  " + "\n  ".join(wrong))
    return facts


def blind(facts: list[Fact]) -> list[tuple[Fact, str]]:
    """The questions of strangers, each with the fact that answers it."""
    known = {f.id: f for f in facts}
    rows = [line.split(" | ", 1) for line in BLIND.read_text().splitlines() if line and not line.startswith("#")]
    return [(known[name], question) for name, question in rows]


def faults(facts: list[Fact]) -> list[str]:
    """What must not be."""
    wrong, seen, asked = [], set(), {}
    for f in facts:
        if f.id in seen:
            wrong.append(f"two facts are called {f.id}")
        seen.add(f.id)
        if not f.right(f.answer):
            wrong.append(f"{f.id}: the answer lacks its own keys {f.keys}")
        if len(f.answer.split()) > MOST_WORDS:
            wrong.append(f"{f.id}: the answer has {len(f.answer.split())} words, more than {MOST_WORDS}")
        if not LEAST_ASKED <= len(f.ask) <= MOST_ASKED:
            wrong.append(f"{f.id}: {len(f.ask)} training questions, not {LEAST_ASKED} to {MOST_ASKED}")
        if len(f.held_out) < HELD_OUT:
            wrong.append(f"{f.id}: {len(f.held_out)} held-out questions, fewer than {HELD_OUT}")
        for q in f.ask + f.held_out:
            if (other := asked.get(plain(q))) is not None:
                wrong.append(f"{q!r} is asked by {other} and {f.id}")
            asked[plain(q)] = f.id
    return wrong


def doubts(facts: list[Fact]) -> list[str]:
    """What is likely to be wrong: questions of the same words in two facts, or in training and evaluation."""
    found, told = [], {}
    for f in facts:
        own = {tuple(bare(q)): q for q in f.ask if len(bare(q)) > 2}
        for q in f.held_out:
            if tuple(bare(q)) in own:
                found.append(f"{f.id}: held out, but trained on in the same words: {q!r}, {own[tuple(bare(q))]!r}")
            if not any(set(content(q)) & set(content(a)) for a in f.ask):
                found.append(f"{f.id}: held out, but shares no word with a training question: {q!r}")
        for q in f.ask + f.held_out:
            other, before = told.setdefault(tuple(sorted(bare(q))), (f.id, q))
            if other != f.id:
                found.append(f"{f.id} and {other} ask in the same words: {q!r}, {before!r}")
    return found


def nearest(facts: list[Fact], questions: dict[str, list[str]] | None = None) -> list[tuple[Fact, str, Fact, str]]:
    """Questions whose most similar training question, by rare words in common, is another fact's: the held-out ones, or
    others by the id of their fact."""
    lines = [(f, q, Counter(content(q))) for f in facts for q in f.ask]
    seen = Counter(w for _, _, words in lines for w in words)
    weight = {w: math.log(len(lines) / n) for w, n in seen.items()}
    size = [math.sqrt(sum(weight[w] ** 2 for w in words)) or 1 for _, _, words in lines]
    index = {}
    for i, (_, _, words) in enumerate(lines):
        for w in words:
            index.setdefault(w, []).append(i)
    astray = []
    for f in facts:
        for q in f.held_out if questions is None else questions[f.id]:
            score = Counter()
            for w in content(q):
                for i in index.get(w, ()):
                    score[i] += weight[w] ** 2 / size[i]
            best = max(score, key=score.get, default=0)
            if lines[best][0] is not f:
                astray.append((f, q, lines[best][0], lines[best][1]))
    return astray


def main():
    facts = load()
    trained = sum(len(f.ask) for f in facts)
    held = sum(len(f.held_out) for f in facts)
    words = [len(f.answer.split()) for f in facts]
    print(f"{len(facts)} facts, {trained} training questions, {held} held out; "
          f"answers have {sum(words) / len(words):.0f} words, at most {max(words)}")
    for topic, count in Counter(f.topic for f in facts).items():
        print(f"{count:5}  {topic}")
    astray = nearest(facts)
    print(f"a search by words alone finds the fact of {1 - len(astray) / held:.0%} of the held-out questions")
    if "--astray" in sys.argv:
        for f, q, other, near in astray:
            print(f"  {f.id}: {q!r} is nearest to {other.id}: {near!r}")
    asked = {plain(q) for f in facts for q in f.ask}
    found = doubts(facts)
    strangers = blind(facts)
    found += [f"{f.id}: asked by strangers and trained on: {q!r}" for f, q in strangers if plain(q) in asked]
    by_id = {f.id: [q for g, q in strangers if g is f] for f in facts}
    lost = len(nearest(facts, by_id))
    print(f"and of {1 - lost / len(strangers):.0%} of the {len(strangers)} questions of strangers")
    for line in found:
        print("doubtful:", line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
