"""Makes templates.json: what Hugging Face transformers renders with the templates beside this file.

    python -m venv v && v/bin/pip install transformers jinja2
    v/bin/python make_templates.py            # templates/*.jinja into templates.json
    v/bin/python make_templates.py FOLDER     # FOLDER/*.jinja into FOLDER/templates.json

The renderer is transformers' own; only the date is fixed. A rendering that fails is recorded as an error, with its
words where the template chose them.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import transformers.utils.chat_template_utils as hf

HERE = pathlib.Path(__file__).parent


class Noon(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 12, 0, 0)


hf.datetime = Noon

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather — quickly & \"safely\" <b>now</b>",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city, e.g. Zürich"},
                    "days": {"type": "integer", "description": "How many days", "default": 1},
                    "unit": {"type": "string", "enum": ["c", "f"], "description": "Unit"},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search files",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "What to look for"},
                    "filters": {
                        "type": "object",
                        "description": "Filters",
                        "properties": {"max": {"type": "number", "description": "Most"}},
                    },
                    "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags"},
                },
                "required": ["query"],
            },
        },
    },
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, ident="call00001"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(text, ident="call00001", name="get_weather"):
    return {"role": "tool", "tool_call_id": ident, "name": name, "content": text}


ARGUMENTS = {"city": "Zürich \"West\"", "days": 3}

# name: (messages, tools, add_generation_prompt, kwargs)
CONVERSATIONS = {
    "user": ([user("Hello!")], None, True, {}),
    "system": ([system("Be brief."), user("Hello!")], None, True, {}),
    "turns": ([system("Be brief."), user("Hi"), assistant("Hello."), user("And now?")], None, True, {}),
    "closed": ([user("Hi"), assistant("Hello.")], None, False, {}),
    "spaces": ([user("  padded \n"), assistant("\n yes "), user("é 🙂 \"q\" <b> & 'x' \\n")], None, True, {}),
    "tools": ([user("Weather in Bern?")], TOOLS, True, {}),
    "tools_system": ([system("Use tools."), user("Weather in Bern?")], TOOLS, True, {}),
    "call": ([user("Weather?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS)])], TOOLS, False, {}),
    "result": (
        [user("Weather?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS)]), tool('{"t": 21.5}')],
        TOOLS, True, {},
    ),
    "result_null": (
        [user("Weather?"), assistant(None, tool_calls=[call("get_weather", ARGUMENTS)]), tool('{"t": 21.5}')],
        TOOLS, True, {},
    ),
    "result_answered": (
        [user("Weather?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS)]), tool("sunny"),
         assistant("It is sunny."), user("Thanks!")],
        TOOLS, True, {},
    ),
    "two_calls": (
        [user("Both?"),
         assistant("Looking.", tool_calls=[call("get_weather", {"city": "Bern"}),
                                           call("search", {"query": "x", "filters": {"max": 2}, "tags": []}, "call00002")]),
         tool("sunny"), tool("found", "call00002", "search")],
        TOOLS, True, {},
    ),
    "thought": (
        [user("1+1?"), assistant("<think>\nadd\n</think>\n\n2"), user("2+2?")], None, True, {},
    ),
    "thought_field": (
        [user("1+1?"), assistant("2", reasoning_content="add them"), user("2+2?")], None, True, {},
    ),
    "thinking_off": ([user("1+1?")], None, True, {"enable_thinking": False}),
    "thinking_on": ([user("1+1?")], None, True, {"enable_thinking": True, "thinking": True}),
    "effort": ([system("Be kind."), user("1+1?")], None, True, {"reasoning_effort": "high"}),
    "parts": ([user([{"type": "text", "text": "part one"}])], None, True, {}),
    "parts_as_text": ([user("part one")], None, True, {}),
    "two_users": ([user("a"), user("b")], None, True, {}),
    "odd_role": ([user("a"), {"role": "critic", "content": "b"}], None, True, {}),
    "date": ([user("a")], None, True, {"date_string": "01 Feb 2003"}),
}

TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>", "unk_token": "<UNK>", "pad_token": "<PAD>"}


def with_text_arguments(messages):
    """Calls whose arguments are JSON text, for templates that write them as they are."""
    messages = json.loads(json.dumps(messages))
    for message in messages:
        for c in message.get("tool_calls") or []:
            c["function"]["arguments"] = json.dumps(c["function"]["arguments"], ensure_ascii=False, separators=(",", ":"))
    return messages


def render(source, messages, tools, add, kwargs):
    try:
        texts = hf.render_jinja_template(
            [messages], tools=tools, chat_template=source, add_generation_prompt=add, **TOKENS, **kwargs
        )
        return {"text": texts[0][0]}
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"raised": str(error)} if raised else {"failed": str(error)}
    except Exception as error:  # Python's own errors within a template
        return {"failed": f"{type(error).__name__}: {error}"}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "templates"
    out = folder / "templates.json" if len(sys.argv) > 1 else HERE / "templates.json"
    goldens = {}
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text()
        results = {}
        for name, (messages, tools, add, kwargs) in CONVERSATIONS.items():
            result = render(source, messages, tools, add, kwargs)
            text = render(source, with_text_arguments(messages), tools, add, kwargs)
            # Recorded where it differs: which of the two the template is made for is the renderer's to find out.
            results[name] = result if text == result else {"object": result, "string": text}
        goldens[path.stem] = results
    conversations = {
        name: {"messages": m, "tools": t, "add_generation_prompt": a, "kwargs": k}
        for name, (m, t, a, k) in CONVERSATIONS.items()
    }
    text = json.dumps({"tokens": TOKENS, "conversations": conversations, "templates": goldens}, ensure_ascii=False, indent=0)
    out.write_text(text)
    print(f"{out}: {len(text.encode())} bytes, {len(goldens)} templates")


main()
