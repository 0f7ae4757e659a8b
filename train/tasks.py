"""The generated conversations: one endless stream, a function of its seed alone.

    python tasks.py --seed 1 --count 20        # look at some
"""

import argparse
import random

import chat
import quiz
import talk
import tool_tasks

TRAIN_COUNT = 60_000
HELD_COUNT = 1_500
SYSTEMS = ["You are a helpful assistant.", "You are a helpful assistant.", "You are a friendly assistant.", "Answer briefly.", "You are an assistant.",
           "Be short and clear.", "You are a helpful assistant that can use tools.", "You are sampan-nano, a small demonstration model built into Sampan.",
           "You are a concise assistant.", "Today is a nice day. You help the user.", "You are a customer service agent.", "Always be polite."]
SYSTEM_SHARE = 0.45
# (share, maker): makers of one question and answer.
PAIRS = [(15, talk.about_self), (22, talk.about_sampan), (14, talk.small_talk), (9, talk.unknown), (10, quiz.capital), (14, quiz.knowledge),
         (16, quiz.small_sum), (2, quiz.big_sum), (2, quiz.compare), (4, quiz.counting), (7, quiz.copying), (9, quiz.extraction)]
# (share, maker): makers of a whole conversation with tools.
TOOLED = [(58, tool_tasks.with_call), (24, tool_tasks.without_call), (11, tool_tasks.missing), (7, tool_tasks.two_cities)]
TOOLED_SHARE = 0.42
TOLD_SHARE = 0.04
TURNS = [1, 1, 1, 1, 2, 2, 3, 4]


def draw(rng, table):
    return rng.choices([maker for _, maker in table], [share for share, _ in table])[0]


def pairs_to_messages(pairs):
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair)]


def conversation(rng, held):
    tools = None
    kind = rng.random()
    if kind < TOOLED_SHARE:
        messages, tools = draw(rng, TOOLED)(rng, held)
    elif kind < TOOLED_SHARE + TOLD_SHARE:
        pairs = quiz.told(rng)
        if rng.random() < 0.5:
            pairs.insert(1, draw(rng, PAIRS[:6])(rng))
        messages = pairs_to_messages(pairs)
    else:
        messages = pairs_to_messages(draw(rng, PAIRS)(rng) for _ in range(rng.choice(TURNS)))
    if rng.random() < SYSTEM_SHARE:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return messages, tools


def stream(seed, count, held=False):
    """`count` pairs of messages and tools (None without tools). `held` uses tools that training never sees."""
    rng = random.Random(f"sampan-nano {seed} {held}")
    for _ in range(count):
        yield conversation(rng, held)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--held", action="store_true")
    arguments = parser.parse_args()
    for messages, tools in stream(arguments.seed, arguments.count, arguments.held):
        print(chat.render(messages, tools))
        print("=" * 100)


if __name__ == "__main__":
    main()
