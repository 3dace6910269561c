"""Ways to say the same thing: turns one question into many. Deterministic for a given `random.Random`."""

import random
import re

OPENERS = ["", "", "", "", "", "", "Hi, ", "Hello! ", "Hey, ", "Please tell me: ", "Quick question: ", "Excuse me, ",
           "I have a question. ", "I'd like to know: ", "Can you tell me, ", "Sorry, ", "Good morning, ", "One thing: ",
           "So, ", "OK, ", "Now, ", "Question: ", "Another question: ", "Just wondering, ", "I'm new here. "]
CLOSERS = ["", "", "", "", "", "", "", " Thanks!", " Thank you.", " Please.", " please", " I'm new to this.",
           " Can you help?", " Any idea?", " I don't understand.", " Please explain.", " Just curious."]

# Each line: phrases that may stand for one another.
SYNONYMS = [line.split(" | ") for line in """
how do i | how can i | how to | how would i | what do i do to | what's the way to | tell me how to | how does one | is there a way to | how should i | i want to | i need to | i'd like to | can you show me how to
start | launch | run | fire up | bring up | boot | get going
stop | shut down | quit | end | terminate | kill | turn off | close | halt
server | perch server | service | daemon | perch
change | set | modify | adjust | switch | alter | configure | pick
use | work with | try | employ | take
connect | hook up | link | attach | set up | integrate | plug in
does perch support | can perch do | does it support | is there support for | does perch have | is perch able to do | will perch do | do you support
is supported | works | is possible | is available
what is | what's | what does it mean: | explain | define | tell me about | describe | what do you mean by | meaning of
which | what
show me | give me | print | display | let me see
where is | where do i find | where can i find | where's | how do i find | where can i see
where are | where do i find | where can i find | how do i find
why do i get | why am i getting | what causes | i get | i keep getting | i see | it says | the server says | what does it mean when i get
what does * mean | what is * | i get * | why * | i see * | explain * | the error *
computer | machine | pc | laptop | system | box | device
folder | directory
model | llm | language model
models | llms | language models
memory | ram
fast | quick
slow | sluggish | too slow
error | failure | problem | issue | message
answer | reply | response | output
answers | replies | responses
request | call | query
program | app | application | tool | client
find | see | discover | get | look up
big | large
file | checkpoint
need | require | want
several | many | multiple | more than one | two
download | fetch | get | pull
key | api key | token | password
list | show | see | view | print
example | sample | snippet
at once | at the same time | in parallel | simultaneously | together | concurrently
another | a different | some other | a new
command | terminal command | cli command
""".strip().splitlines()]

STOP_WORDS = set("""a an the is are do does can could would should i me my you your it its to of in on for with and or
what which how where when why who please this that there be if have has get was will not no any from as at by""".split())
FRAMES = ["{}", "{}?", "how {}?", "how do I {}?", "what about {}?", "{} please", "help with {}", "question about {}",
          "tell me about {}", "I have a problem: {}", "{} in Perch?", "what is {}?", "explain {}", "info on {}",
          "can you explain {}?", "I don't get {}", "{}, how?", "{} - what do I do?", "which {}?", "where {}?", "why {}?"]


def synonyms(text: str, r: random.Random, chance: float = 0.35) -> str:
    low = text
    for group in SYNONYMS:
        for phrase in group:
            if "*" in phrase or r.random() > chance:
                continue
            pattern = re.compile(r"(?<![\w/`.-])" + re.escape(phrase) + r"(?![\w/`-])", re.I)
            if pattern.search(low):
                other = r.choice([p for p in group if "*" not in p])
                low = pattern.sub(lambda m: match_case(m.group(0), other), low, count=1)
                break
    return low


def match_case(old: str, new: str) -> str:
    return new[0].upper() + new[1:] if old[0].isupper() else new


def typo(text: str, r: random.Random) -> str:
    words = text.split(" ")
    at = [i for i, w in enumerate(words) if len(w) > 3 and w.isalpha()]
    if not at:
        return text
    i = r.choice(at)
    w = list(words[i])
    j = r.randrange(1, len(w) - 1)
    kind = r.random()
    if kind < 0.4:
        w[j], w[j + 1] = w[j + 1], w[j]
    elif kind < 0.7:
        del w[j]
    else:
        w.insert(j, w[j])
    words[i] = "".join(w)
    return " ".join(words)


def drop_words(text: str, r: random.Random) -> str:
    words = text.split(" ")
    kept = [w for w in words if w.lower().strip("?.,!'") not in STOP_WORDS or r.random() > 0.3]
    return " ".join(kept) or text


def content(text: str) -> list[str]:
    return [w.strip("?.,!\"") for w in text.split() if w.lower().strip("?.,!\"'") not in STOP_WORDS]


def from_words(questions: list[str], r: random.Random) -> str:
    """A question made of the content words of one or two others, in a frame."""
    words = content(r.choice(questions))
    if r.random() < 0.5:
        extra = content(r.choice(questions))
        words += [w for w in extra if w.lower() not in {x.lower() for x in words}][:2]
    if len(words) > 2 and r.random() < 0.4:
        words.pop(r.randrange(len(words)))
    if r.random() < 0.3:
        r.shuffle(words)
    return r.choice(FRAMES).format(" ".join(words))


def vary(questions: list[str], r: random.Random) -> str:
    """One way to ask what `questions` ask."""
    text = from_words(questions, r) if r.random() < 0.2 else r.choice(questions)
    if r.random() < 0.6:
        text = synonyms(text, r)
    if r.random() < 0.15:
        text = drop_words(text, r)
    if r.random() < 0.12:
        text = typo(text, r)
    opener = r.choice(OPENERS) if r.random() < 0.5 else ""
    if opener.rstrip().endswith((",", ":")) and text[:2] not in ("I ", "I'") and not text.startswith("Perch"):
        text = text[:1].lower() + text[1:]
    text = opener + text + (r.choice(CLOSERS) if r.random() < 0.4 else "")
    kind = r.random()
    if kind < 0.2:
        text = text.lower()
    elif kind < 0.23:
        text = text.upper()
    if r.random() < 0.25:
        text = text.rstrip("?.!")
    elif r.random() < 0.06:
        text = text.rstrip("?.!") + r.choice(["??", "!", "...", " ?"])
    return text.strip() or questions[0]
