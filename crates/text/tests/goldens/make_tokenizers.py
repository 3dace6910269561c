"""Makes tokenizers.json: small tokenizers trained here, and what the reference libraries encode with them.

    python -m venv v && v/bin/pip install tokenizers sentencepiece protobuf gguf llama-cpp-python
    v/bin/python make_tokenizers.py

Each tokenizer is given in every form that it has (GGUF metadata as plain data, tokenizer.json, tokenizer.model). The
ids come from Hugging Face's tokenizers, from sentencepiece and from llama.cpp (through vocabulary-only GGUF files);
where a library cannot say, its list is null.
"""

import base64
import io
import json
import os
import pathlib
import tempfile

import gguf
import llama_cpp
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent

# Written for this file; repetitive on purpose, so that a small vocabulary learns words in several scripts.
CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog doesn't mind; it's asleep, and we'll let it sleep.",
    "They've said I'm late, but I'd say you're early. DON'T SHOUT: I'LL LISTEN. We can't, won't, shouldn't.",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n",
    "for (int i = 0; i < 10; ++i) {\n\tprintf(\"%d\\n\", i);\n}\n\n\n// done\r\n",
    "In 2024 there were 1234567 birds, 3.14159 pies, 100% of them $5.00 each; 192.168.0.1 is an address.",
    "Der schnelle braune Fuchs springt über den faulen Hund. Größe, Straße, Übung, ähnlich.",
    "Le renard brun saute par-dessus le chien paresseux. Où êtes-vous? L'été à Noël, ça va.",
    "Быстрая коричневая лиса прыгает через ленивую собаку. Привет, мир!",
    "敏捷的棕色狐狸跳过了懒狗。你好，世界！今天天气很好。中文测试。",
    "素早い茶色の狐がのろまな犬を飛び越える。こんにちは、世界！カタカナも。",
    "안녕하세요 세계! 빠른 갈색 여우가 게으른 개를 뛰어넘습니다.",
    "مرحبا بالعالم! الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "שלום עולם! השועל החום המהיר קופץ מעל הכלב העצלן.",
    "नमस्ते दुनिया! तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।",
    "🙂🙃😀 emoji 👨‍👩‍👧‍👦 family 🏳️‍🌈 flags 🇩🇪🇫🇷 hearts ❤️❤️❤️",
    "aaaaaaaa aaaa aaaaaaaaaaaaaaaa ======== ---- ________ ........ !!!!!!!! ??? ....",
    "camelCaseWords AndPascalCase and snake_case_words, HTTPServer, XMLHttpRequest, iPhone.",
] * 4

# What breaks tokenizers.
TEXTS = [
    "",
    " ",
    "  ",
    "   ",
    "\n",
    "\t",
    "\n\n",
    " \n\n\n \t\t ",
    "Hello world",
    " Hello world ",
    "Hello  world   with    runs     of      spaces",
    "Hello\nworld\n\n\nagain\r\n\r\n end\r",
    "I'm you're they've DON'T it'S we'LL I'd 'tis 's",
    "1 12 123 1234 12345 123456789 3.14 1,000,000 ١٢٣ ½ ⅷ ²",
    "def f(x):\n    return x**2  # square\n\n\tif x != 3:\r\n",
    "camelCase PascalCase HTTPServer XMLHttpRequest ÀÉÎ ßtraße",
    "Übung über Größe naïve café cafe\u0301 A\u030a",
    "Привет, мир! Как дела?",
    "你好，世界！今天天气很好。123个",
    "こんにちは、カタカナ漢字",
    "안녕하세요 세계",
    "مرحبا بالعالم ١٢٣",
    "שלום \u200fעולם",
    "नमस्ते दुनिया क्षत्रिय",
    "👨‍👩‍👧‍👦🏳️‍🌈🇩🇪🙂 ❤️",
    "a\u0300\u0301\u0302\u0303 z\u0323\u0307",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa aaaa a",
    "================ ---- ____ ....!!!???",
    "tab\tseparated\t\tvalues \t mixed",
    "nbsp\u00a0here\u2003em\u3000ideographic\u200bzero",
    "$5.00 + €3 = ¥800 ± 2% (approx.) [x] {y} <z> \"q\" `c` ~t^2|",
    "/path/to/file.txt https://example.org/?q=a&b=c#d user@example.org",
    "ab cd\u0000ef\u0001\u007f",
    "\ufeffbom \ufffd replacement",
    "ǅ ǲ ᾼ ﬁ ſ K ª º 𝐀𝐛 ⅻ Ⴀა",
    "end with space ",
    "▁lower ▁one eighth ▁",
    "<|im_start|>user\nHi<|im_end|>\n",
    "<s>x</s> <unk> <0x0A>",
    "word<|im_end|> next <think>hm</think>",
]

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<think>", "</think>"]

LETTERS = r"[^\r\n\p{L}\p{N}]?"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    LETTERS + UPPER + "*" + LOWER + r"+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    + LETTERS + UPPER + "+" + LOWER + r"*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    LETTERS + UPPER + "*" + LOWER + "+|" + LETTERS + UPPER + "+" + LOWER + r"*|"
    + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


# The pre-tokenizers as the models' tokenizer.json files write them. None: only llama.cpp has this one.
PRE = {
    "gpt-2": byte_level(True),
    "llama-bpe": sequence(split(GPT4.format(digits=r"\p{N}{1,3}")), byte_level()),
    "qwen2": sequence(split(GPT4.format(digits=r"\p{N}")), byte_level()),
    "qwen35": sequence(
        split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        byte_level(),
    ),
    "gpt-4o": sequence(split(GPT4O), byte_level()),
    "tekken": sequence(split(TEKKEN), byte_level()),
    "smollm": sequence(pre_tokenizers.Digits(individual_digits=True), byte_level(True)),
    "starcoder": sequence(pre_tokenizers.Digits(individual_digits=True), byte_level(True)),
    "refact": sequence(pre_tokenizers.Digits(individual_digits=True), byte_level(True)),
    "deepseek-coder": sequence(
        split(r"[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split(r"[一-龥ࠀ-一가-퟿]+"),
        pre_tokenizers.Digits(individual_digits=True),
        byte_level(),
    ),
    "deepseek-v3": sequence(
        split(r"\p{N}{1,3}"),
        split(r"[一-龥぀-ゟ゠-ヿ]+"),
        split(
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
        ),
        byte_level(),
    ),
    "deepseek-llm": None,
    "falcon": None,
    "minicpm5": None,
    "bailingmoe": None,
    "bloom": None,
    "default": None,
}
# A word that is a token is taken whole in these families.
IGNORE_MERGES = {"llama-bpe", "tekken", "minicpm5"}


def llama_ids(vocab, texts):
    """Ids by llama.cpp, of a vocabulary-only GGUF file: (parse=False, parse=True)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_vocab_size(len(vocab["tokens"]))
        writer.add_context_length(64)
        writer.add_embedding_length(8)
        writer.add_block_count(1)
        writer.add_feed_forward_length(8)
        writer.add_head_count(1)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model(vocab["model"])
        if "pre" in vocab:
            writer.add_tokenizer_pre(vocab["pre"])
        writer.add_token_list([t.encode() for t in vocab["tokens"]])
        writer.add_token_types(vocab["token_types"])
        if "scores" in vocab:
            writer.add_token_scores(vocab["scores"])
        if "merges" in vocab:
            writer.add_token_merges(vocab["merges"])
        for name, key in [("bos", "add_bos_token_id"), ("eos", "add_eos_token_id"), ("unk", "add_unk_token_id"),
                          ("sep", "add_sep_token_id"), ("pad", "add_pad_token_id")]:
            if vocab.get(name) is not None:
                getattr(writer, key)(vocab[name])
        for name, key in [("add_bos", "add_add_bos_token"), ("add_eos", "add_add_eos_token"),
                          ("add_space_prefix", "add_add_space_prefix"),
                          ("remove_extra_whitespaces", "add_remove_extra_whitespaces")]:
            if vocab.get(name) is not None:
                getattr(writer, key)(vocab[name])
        if vocab.get("precompiled_charsmap"):
            writer.add_precompiled_charsmap(base64.b64decode(vocab["precompiled_charsmap"]))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
        run = lambda text, parse: model.tokenize(text.encode(), add_bos=False, special=parse)
        # Both ends' tokens come with add_bos in llama.cpp; they are left out of the comparison.
        return [[run(t, False) for t in texts], [run(t, True) for t in texts]]


def hf_ids(tokenizer, texts):
    both = []
    for parse in (False, True):
        tokenizer.encode_special_tokens = not parse
        both.append([tokenizer.encode(t, add_special_tokens=False).ids for t in texts])
    return both


def train_byte_level():
    tokenizer = Tokenizer(models.BPE())
    # The cruder cut lets merges cross what finer cuts divide, so that the cut shows in the ids.
    tokenizer.pre_tokenizer = sequence(split(r"[\p{L}\p{M}]+|[\p{N}.,]+|\s+|[^\s\p{L}\p{M}\p{N}]+[\r\n]*| ?[^\s]+"), byte_level())
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=620, special_tokens=CONTROL, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    data = json.loads(tokenizer.to_str())
    merges = [" ".join(m) for m in data["model"]["merges"]]
    # Words that merges cannot reach, as Llama 3 has them; only ignore_merges finds these.
    vocab = data["model"]["vocab"]
    for word in ["Ġworld", "HelloĠworld", "ĠHello"]:
        vocab.setdefault(word, len(vocab))
    # Merges that join a space to a word, which every GPT-2 descendant has.
    extra = []
    for right in ["h", "w", "t", "d", "1", "a", "Hello"]:
        if right in vocab or right == "Hello":
            text = "Ġ" + right
            if right in vocab:
                vocab.setdefault(text, len(vocab))
                extra.append(["Ġ", right])
    data["model"]["merges"] = extra + data["model"]["merges"]
    merges = [" ".join(m) for m in data["model"]["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in USER_DEFINED])
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    types = [3 if t in CONTROL else 4 if t in USER_DEFINED else 1 for t in tokens]
    vocab = {"model": "gpt2", "tokens": tokens, "token_types": types, "merges": merges, "bos": 0, "eos": 0}
    return tokenizer, vocab


def byte_level_family():
    tokenizer, vocab = train_byte_level()
    families = {}
    for name, pre in PRE.items():
        entry = {"hf": None, "pre_tokenizer": None}
        if pre is not None:
            data = json.loads(tokenizer.to_str())
            data["model"]["ignore_merges"] = name in IGNORE_MERGES
            run = Tokenizer.from_str(json.dumps(data))
            run.pre_tokenizer = pre
            entry["pre_tokenizer"] = json.loads(run.to_str())["pre_tokenizer"]
            entry["hf"] = hf_ids(run, TEXTS)
        entry["llama_cpp"] = llama_ids({**vocab, "pre": name}, TEXTS)
        families[name] = entry
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = None
    return {"gguf": vocab, "tokenizer_json": data, "ignore_merges": sorted(IGNORE_MERGES), "pre": families}


def train_sentencepiece(kind, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, model_type=kind, hard_vocab_limit=False, minloglevel=2,
        num_threads=1, **options,
    )
    return out.getvalue()


def sentencepiece_family(kind, **options):
    model = train_sentencepiece(kind, **options)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model)
    normalizer = proto.normalizer_spec
    tokens = [p.piece for p in proto.pieces]
    vocab = {
        "model": "llama" if kind == "bpe" else "t5",
        "tokens": tokens,
        "scores": [p.score for p in proto.pieces],
        "token_types": [int(p.type) for p in proto.pieces],
        "bos": sp.bos_id() if sp.bos_id() >= 0 else None,
        "eos": sp.eos_id(),
        "unk": sp.unk_id(),
        "add_space_prefix": normalizer.add_dummy_prefix,
        "remove_extra_whitespaces": normalizer.remove_extra_whitespaces,
        "precompiled_charsmap": base64.b64encode(normalizer.precompiled_charsmap).decode(),
    }
    # The charsmap of nmt_nfkc alone has 240 kB: it stays in the model, of which the test takes it.
    charsmap = vocab["precompiled_charsmap"]
    entry = {
        "model": base64.b64encode(model).decode(),
        "sentencepiece": [sp.encode(t) for t in TEXTS],
        "llama_cpp": None if charsmap and kind == "bpe" else llama_ids(vocab, TEXTS),
        "decoded": [sp.decode(sp.encode(t)) for t in TEXTS],
    }
    entry["gguf"] = {k: v for k, v in vocab.items() if v is not None}
    if charsmap:
        # Said once, in the model.
        del entry["gguf"]
    return entry


def wordpiece_family():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=specials, show_progress=False, limit_alphabet=200)
    )
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    plain = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    # As llama.cpp's converter writes them.
    tokens = [t if t in specials else t[2:] if t.startswith("##") else "▁" + t for t in plain]
    vocab = {
        "model": "bert", "tokens": tokens, "token_types": [3 if t in specials else 1 for t in plain],
        "bos": cls, "sep": sep, "eos": sep, "unk": tokenizer.token_to_id("[UNK]"), "pad": 0,
    }
    return {
        "gguf": vocab,
        "tokenizer_json": json.loads(tokenizer.to_str()),
        "hf": hf_ids(tokenizer, TEXTS),
        "with_added": [tokenizer.encode(t).ids for t in TEXTS],
    }


def main():
    goldens = {
        "texts": TEXTS,
        "byte_level": byte_level_family(),
        # As Llama 2 was trained: no normalisation, bytes for what is missing.
        "llama": sentencepiece_family(
            "bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity", character_coverage=0.98,
            remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
            user_defined_symbols=["<think>", "</think>"],
        ),
        # As Gemma: no space in front.
        "gemma": sentencepiece_family(
            "bpe", vocab_size=600, byte_fallback=True, normalization_rule_name="identity", character_coverage=0.98,
            remove_extra_whitespaces=False, add_dummy_prefix=False, allow_whitespace_only_pieces=True,
        ),
        # As T5: unigram with the default normalisation.
        "unigram": sentencepiece_family("unigram", vocab_size=400, character_coverage=0.98, bos_id=-1, pad_id=0, eos_id=1, unk_id=2),
        "wordpiece": wordpiece_family(),
    }
    text = json.dumps(goldens, ensure_ascii=False, separators=(",", ":"))
    (HERE / "tokenizers.json").write_text(text)
    print(f"tokenizers.json: {len(text.encode())} bytes")


main()
