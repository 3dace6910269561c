"""Speed of llama.cpp on the files that `cargo xtask bench` makes, for docs/benchmarks.md.

    pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 -C cmake.args="-DGGML_NATIVE=ON"
    python bench_llama_cpp.py THREADS MODEL.gguf ...

Prints, for each file, medians of three: tokens a second of a prompt of 512, of 64 decoded tokens after 128 and after 1,024,
and the peak memory of the process.
"""

import ctypes
import resource
import statistics
import sys
import time

import llama_cpp as lib


def decode(context, tokens, start, vocabulary_rows):
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i] = token
        batch.pos[i] = start + i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = i == len(tokens) - 1
    if lib.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")
    lib.llama_synchronize(context)
    lib.llama_batch_free(batch)


def measure(threads, path):
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 2304, 2048, 512
    params.n_threads = params.n_threads_batch = threads
    context = lib.llama_init_from_model(model, params)
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    token = lambda i: (i * 7919 + 13) % vocabulary
    memory = lib.llama_get_memory(context)

    def prefill(count):
        lib.llama_memory_clear(memory, True)
        start = time.perf_counter()
        decode(context, [token(i) for i in range(count)], 0, vocabulary)
        return count / (time.perf_counter() - start)

    def decoding(depth, count=64):
        prefill(depth)
        start = time.perf_counter()
        for i in range(count):
            decode(context, [token(depth + i)], depth + i, vocabulary)
        return count / (time.perf_counter() - start)

    prefill(64)
    figures = [statistics.median(f() for _ in range(3)) for f in
               (lambda: prefill(512), lambda: decoding(128), lambda: decoding(1024))]
    lib.llama_free(context)
    lib.llama_model_free(model)
    return figures


if __name__ == "__main__":
    silent = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    lib.llama_backend_init()
    for path in sys.argv[2:]:
        prefill, shallow, deep = measure(int(sys.argv[1]), path)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{path}: prefill 512 {prefill:.0f}, decode at 128 {shallow:.1f}, at 1,024 {deep:.1f} t/s, peak {peak} MB", flush=True)
