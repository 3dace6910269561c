"""Ways to say the same thing: turns one question into many. Deterministic for a given `random.Random`."""

import random
import re

OPENERS = ["Hi, ", "Hello! ", "Hey, ", "Hey guide, ", "Please tell me: ", "Quick question: ", "quick q: ", "Excuse me, ", "Help: ",
           "I have a question. ", "I'd like to know: ", "Can you tell me, ", "Could you tell me: ", "Sorry, ", "Good morning, ",
           "One thing: ", "So, ", "OK, ", "Now, ", "Question: ", "Another question: ", "Just wondering, ", "I'm new here. ",
           "Hmm, ", "And ", "Next: ", "A beginner's question: ", "I was asked this: ", "Stupid question: ", "Hi there. ",
           "Thanks. ", "Please help. ", "In Perch: ", "With Perch: ", "About Perch: "]
CLOSERS = [" Thanks!", " Thank you.", " Please.", " please", " pls", " I'm new to this.", " Can you help?", " Any idea?", " thx",
           " I don't understand.", " Please explain.", " Just curious.", " Thanks in advance.", " Help!", " I am stuck.",
           " I can't find it.", " Short answer please.", " in Perch?", " with Perch?", " Do you know?"]

# Each line: phrases that may stand for one another. After ">" come phrases that are put in, but not taken out, because
# elsewhere they mean something else. Words with a meaning of their own here (token, key, stop, server) are left alone.
SYNONYMS = []
for line in """
how do i | how can i | how to | how would i | how does one | how should i | how could i | how do you > what do i do to | what's the way to | tell me how to | is there a way to | i want to | i need to | i'd like to | can you show me how to | what must i do to | explain how to | which steps do i take to | help me | what is the best way to | could you tell me how to
start | launch > run | fire up | bring up | boot | spin up
stop perch | quit perch | shut perch down | end perch | turn perch off | close perch | halt perch
stop the server | shut down the server | quit the server | end the server | turn off the server | halt the server
change | modify | adjust | alter > switch | set | configure
connect | hook up > link | attach | integrate | plug in
does perch support | does perch have | can perch do > is there support for | is perch able to do | will perch do | do you support | is there | does it have
can i use | may i use | is it possible to use | am i able to use
is supported > works | is possible | is available | is there
what is | what's > what does it mean: | explain | define | tell me about | describe | what do you mean by | meaning of | what exactly is
what does * mean > what is * | i get * | why * | i see * | explain * | the error * | * means what | help with *
show me | give me > print | display | let me see | i'd like to see
where is | where's > where do i find | where can i find | how do i find | where can i see | in which place is
where are > where do i find | where can i find | how do i find
why do i get | why am i getting > what causes | i get | i keep getting | i see | it says | the server says | what does it mean when i get
my computer | my machine | my pc | my laptop | this computer | this machine | my box
a mac | a macbook | an apple computer | my mac
folder | directory
the model | the llm | the language model | my model
models > llms | language models
memory | ram
quick > fast
slow > sluggish | too slow | very slow
problem | issue | trouble
answer | reply > response
answers | replies > responses
request | call
requests | calls
program | application > app | tool
look up > find | see
big | large
need | require > want
several | many | multiple | more than one
download > fetch | get
list > show | view
example > sample | snippet
at once | at the same time | in parallel | simultaneously | together | concurrently
another | a different | some other
command > terminal command | cli command
config | configuration | settings
setting | option
delete | remove > erase | get rid of
a conversation | a chat
the conversation | the chat
conversations | chats
browser > web browser
don't | do not
doesn't | does not
can't | cannot | can not
quantise | quantize
quantised | quantized
quantisation | quantization > quant
licence | license
which | what
terminal | command line | shell
mend | fix
too long | too large
other computers | other machines | other devices
another computer | another machine | another device
""".strip().splitlines():
    out, _, only_in = line.partition(" > ")
    SYNONYMS.append((out.split(" | "), out.split(" | ") + (only_in.split(" | ") if only_in else [])))

def compiled(phrase: str) -> tuple[re.Pattern, str]:
    """What finds a phrase as words of its own, not within a path, flag or code; `*` is any word or two."""
    inner = re.escape(phrase).replace(re.escape("*"), r"(\S+(?: \S+)?)")
    return re.compile(r"(?<![\w/`.\"=-])" + inner + r"(?![\w/`\"=-]|\.\w)", re.I), phrase


PATTERNS = {phrase: compiled(phrase) for out, _ in SYNONYMS for phrase in out}

# Words that a hasty asker leaves out. Not among them: question words, negations and "without", which tell facts apart.
STOP_WORDS = set("""a an the is are do does did can could would should i me my you your it its to of in on for with and this that
there be has had was will please have get any as at by perch""".split())
FRAMES = ["{}", "{}", "{}?", "{}?", "what about {}?", "{} please", "help with {}", "question about {}", "{} in Perch?", "info on {}",
          "I have a question about {}", "{}, how does that work?", "{} - what do I do?", "something about {}", "tell me: {}",
          "perch {}", "can you help with {}?", "need help: {}"]


def synonyms(text: str, r: random.Random, chance: float = 0.35) -> str:
    """Other words for the same. Keywords of one or two words are left as they are."""
    if len(text.split()) < 3:
        return text
    for out, put_in in SYNONYMS:
        if r.random() > chance:
            continue
        for phrase in out:
            pattern, _ = PATTERNS[phrase]
            if pattern.search(text):
                other = r.choice([p for p in put_in if ("*" in p) == ("*" in phrase)])
                text = pattern.sub(lambda m: match_case(m.group(0), other.replace("*", m[1] if "*" in phrase else "")), text, count=1)
                break
    return text


def match_case(old: str, new: str) -> str:
    return new[0].upper() + new[1:] if old[0].isupper() else new


# What lies beside each letter on a keyboard.
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
BESIDE = {row[i]: row[max(0, i - 1)] + row[min(i + 1, len(row) - 1)] for row in ROWS for i in range(len(row))}


def typo(text: str, r: random.Random) -> str:
    words = text.split(" ")
    at = [i for i, w in enumerate(words) if len(w) > 3 and w.isalpha()]
    if not at:
        return text
    i = r.choice(at)
    w = list(words[i])
    j = r.randrange(1, len(w) - 1)
    kind = r.random()
    if kind < 0.35:
        w[j], w[j + 1] = w[j + 1], w[j]
    elif kind < 0.6:
        del w[j]
    elif kind < 0.8:
        w.insert(j, w[j])
    else:
        w[j] = r.choice(BESIDE.get(w[j].lower(), w[j]))
    words[i] = "".join(w)
    return " ".join(words)


def drop_words(text: str, r: random.Random) -> str:
    words = text.split(" ")
    kept = [w for w in words if w.lower().strip("?.,!'") not in STOP_WORDS or r.random() > 0.3]
    return " ".join(kept) or text


def content(text: str) -> list[str]:
    return [w for w in (w.strip("?.,!\"") for w in text.split()) if w and w.lower().strip("'") not in STOP_WORDS]


def from_words(questions: list[str], r: random.Random) -> str:
    """A question made of the content words of one or two others, in a frame."""
    words = content(r.choice(questions))
    if r.random() < 0.5:
        extra = content(r.choice(questions))
        words += [w for w in extra if w.lower() not in {x.lower() for x in words}][:2]
    if len(words) > 4 and r.random() < 0.4:
        words.pop(r.randrange(len(words)))
    if len(words) < 6 and r.random() < 0.25:
        r.shuffle(words)
    return r.choice(FRAMES).format(" ".join(words)) if words else r.choice(questions)


def vary(questions: list[str], r: random.Random) -> str:
    """One way to ask what `questions` ask."""
    text = from_words(questions, r) if r.random() < 0.15 else r.choice(questions)
    if r.random() < 0.6:
        text = synonyms(text, r)
    if r.random() < 0.15:
        text = drop_words(text, r)
    for _ in range(r.choice((0, 0, 0, 0, 0, 0, 1, 1, 2))):
        text = typo(text, r)
    opener = r.choice(OPENERS) if r.random() < 0.35 else ""
    if opener.rstrip().endswith((",", ":", "And")) and text[:2] not in ("I ", "I'") and not text.startswith("Perch"):
        text = text[:1].lower() + text[1:]
    closer = r.choice(CLOSERS) if r.random() < 0.25 else ""
    if closer.startswith((" in Perch", " with Perch")):
        text = text.rstrip("?.!") if "perch" not in text.lower() else text
        closer = closer if "perch" not in text.lower() else ""
    text = opener + text + closer
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
