#!/usr/bin/env python3
"""OpenVINO GenAI on a GGUF file with a tokenizer, as a peer of `compare`: prints {sequences: tokens a second}.

  bench/.work/openvino/bin/python bench/with_openvino.py FILE.gguf THREADS QUESTION

A speed is the difference of two
runs: with few generated tokens and with many, so that the prompt does not count; prompts are the time to the first
token. Keys, values and activations are rounded as OpenVINO does by default.
"""
import json
import sys
import time

import numpy
import openvino
import openvino_genai

# Of each question: the prompt's tokens, those that are generated, and how many sequences.
QUESTIONS = {"decode": (4, 64, (1,)), "prefill": (512, 0, (1,)), "prefill2048": (2048, 0, (1,)),
             "depth": (2048, 32, (1,)), "batch": (4, 32, (8, 16))}


def main():
    path, threads, question = sys.argv[1:]
    prompt, generated, batches = QUESTIONS[question]
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    scheduler.max_num_batched_tokens = 4096
    scheduler.max_num_seqs = max(batches)
    scheduler.cache_size = 2
    pipeline = openvino_genai.LLMPipeline(path, "CPU", scheduler_config=scheduler, ATTENTION_BACKEND="PA",
                                          INFERENCE_NUM_THREADS=int(threads))
    random = numpy.random.default_rng(1)

    def seconds(sequences, tokens):
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = tokens
        config.ignore_eos, config.do_sample, config.apply_chat_template = True, False, False
        ids = openvino.Tensor(random.integers(1000, 100_000, (sequences, prompt)))
        mask = openvino.Tensor(numpy.ones((sequences, prompt), dtype=numpy.int64))
        inputs = openvino_genai.TokenizedInputs(ids, mask)
        began = time.perf_counter()
        pipeline.generate(inputs, config)
        return time.perf_counter() - began

    speeds = {}
    for sequences in batches:
        seconds(sequences, 2)  # warms up
        first = seconds(sequences, 1)
        if generated:
            speeds[sequences] = sequences * generated / (seconds(sequences, generated + 1) - first)
        else:
            speeds[sequences] = prompt / first
    print(json.dumps(speeds))


main()
