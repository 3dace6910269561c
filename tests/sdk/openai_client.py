"""Drives a Perch server with OpenAI's own Python client. Usage: openai_client.py URL MODEL

Each function below is one check; the first that fails ends the run with its traceback.
"""

import sys

import openai

url, model = sys.argv[1:3]
client = openai.OpenAI(base_url=url + "/v1", api_key="not needed", max_retries=0, timeout=120)
ask = [{"role": "user", "content": "Tell me a story."}]


def lists_models():
    ids = [m.id for m in client.models.list()]
    assert model in ids, ids
    assert client.models.retrieve(model).id == model


def answers_a_chat_with_usage():
    answer = client.chat.completions.create(model=model, messages=ask, max_tokens=12, temperature=0)
    choice = answer.choices[0]
    assert choice.finish_reason == "length", choice
    assert choice.message.role == "assistant" and choice.message.content, choice
    assert answer.usage.completion_tokens == 12, answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12, answer.usage
    assert answer.object == "chat.completion" and answer.model == model


def streams_the_same_text_as_it_answers_whole():
    settings = dict(model=model, messages=ask, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**settings)
    stream = client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    text, usage, reasons = "", None, []
    for chunk in stream:
        if chunk.usage:
            usage = chunk.usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    assert text == whole.choices[0].message.content, (text, whole)
    assert reasons == ["length"], reasons
    assert usage and usage.completion_tokens == 24, usage


def stream_can_be_closed_early():
    stream = client.chat.completions.create(model=model, messages=ask, max_tokens=200, stream=True)
    next(iter(stream))
    stream.close()
    answers_a_chat_with_usage()


def gives_n_different_choices():
    answer = client.chat.completions.create(model=model, messages=ask, max_tokens=12, n=3, seed=1, temperature=1)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) == 3, answer
    assert answer.usage.completion_tokens == 36, answer.usage


def gives_the_same_text_for_the_same_seed():
    def text(seed):
        answer = client.chat.completions.create(
            model=model, messages=ask, max_tokens=16, seed=seed, temperature=1
        )
        return answer.choices[0].message.content

    assert text(7) == text(7)
    assert text(7) != text(8)


def gives_log_probabilities():
    answer = client.chat.completions.create(
        model=model, messages=ask, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == 4, content
    for entry in content:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3, entry
        best = [top.logprob for top in entry.top_logprobs]
        assert best == sorted(best, reverse=True), best
        # Greedy: the token is the likeliest.
        assert abs(entry.logprob - best[0]) < 1e-6, entry
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token, entry


def stops_at_a_stop_string():
    settings = dict(model=model, messages=ask, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**settings).choices[0].message.content
    stop = whole[5:7]
    answer = client.chat.completions.create(**settings, stop=[stop])
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.choices[0].message.content == whole[: whole.index(stop)], (answer, whole)


def completes_text():
    answer = client.completions.create(model=model, prompt="Once upon", max_tokens=8, temperature=0, echo=True)
    assert answer.object == "text_completion"
    assert answer.choices[0].text.startswith("Once upon"), answer
    stream = client.completions.create(model=model, prompt="Once upon", max_tokens=8, temperature=0, stream=True)
    text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    assert "Once upon" + text == answer.choices[0].text, (text, answer)


def completes_several_prompts():
    answer = client.completions.create(model=model, prompt=["One", "Two"], max_tokens=4, logprobs=2)
    assert [c.index for c in answer.choices] == [0, 1], answer
    assert len(answer.choices[1].logprobs.tokens) == 4, answer


def raises(exception, code, call):
    try:
        call()
    except exception as error:
        assert error.code == code, error
        return error
    raise AssertionError(f"no {exception.__name__}")


def errors_are_the_clients_own_exceptions():
    def chat(**settings):
        settings = {"model": model, "messages": ask, "max_tokens": 4, **settings}
        return lambda: client.chat.completions.create(**settings)

    raises(openai.NotFoundError, "model_not_found", chat(model="no-such-model"))
    error = raises(openai.BadRequestError, "invalid_value", chat(temperature=-1))
    assert error.param == "temperature", error
    error = raises(openai.BadRequestError, "context_length_exceeded", chat(messages=[
        {"role": "user", "content": "word " * 20000}
    ]))
    raises(openai.BadRequestError, "unsupported_parameter", chat(extra_body={"no_such_field": 1}))
    raises(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("no-such-model"))


checks = [
    lists_models,
    answers_a_chat_with_usage,
    streams_the_same_text_as_it_answers_whole,
    stream_can_be_closed_early,
    gives_n_different_choices,
    gives_the_same_text_for_the_same_seed,
    gives_log_probabilities,
    stops_at_a_stop_string,
    completes_text,
    completes_several_prompts,
    errors_are_the_clients_own_exceptions,
]
for check in checks:
    print(check.__name__.replace("_", " "), flush=True)
    check()
print(f"all {len(checks)} checks passed")
