"""Pairs of texts that belong together, from the public text data.

Each source yields (query, document): a sentence and the passage around it, without that sentence; a question and its
answer in a dialogue; a docstring and the code below it. The held-out pairs come from other books, other dialogues and
other modules.
"""

import ast
import json
import pathlib
import random
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import corpus  # noqa: E402

SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(A-Z])")
PASSAGE_CHARS = 420
QUERY_CHARS_MIN = 40
MODULES_HELD_OUT = 12  # every twelfth module of the standard library


def passages(text):
    """Pieces of whole sentences, each about PASSAGE_CHARS long: a list of sentences for each."""
    held, size = [], 0
    for sentence in SENTENCE.split(text.replace("\n", " ")):
        held.append(sentence.strip())
        size += len(sentence)
        if size >= PASSAGE_CHARS:
            yield held
            held, size = [], 0


def prose(folder, names, rng, passes=1):
    """A sentence of a passage, and the passage without it; now and then the passage before or after."""
    for _ in range(passes):
        for name in names:
            for record in corpus.records(folder, name):
                pieces = list(passages(record["text"]))
                for index, sentences in enumerate(pieces):
                    fit = [i for i, s in enumerate(sentences) if len(s) >= QUERY_CHARS_MIN]
                    if not fit or len(sentences) < 2:
                        continue
                    chosen = rng.choice(fit)
                    rest = sentences[:chosen] + sentences[chosen + 1:]
                    query = sentences[chosen]
                    if rng.random() < 0.15:
                        rest = sentences  # the sentence itself: what a search for a quotation needs
                    elif rng.random() < 0.1 and index + 1 < len(pieces):
                        rest = pieces[index + 1]
                    if rng.random() < 0.25:
                        query = some_words(query, rng)  # what people type
                    yield query, " ".join(rest)


def some_words(sentence, rng):
    """Three to ten words of a sentence in a row."""
    words = sentence.split()
    count = min(len(words), rng.randint(3, 10))
    start = rng.randint(0, len(words) - count)
    return " ".join(words[start:start + count])


def dialogues(folder, name):
    """What a person says, and what is answered."""
    for record in corpus.records(folder, name):
        said = None
        for message in record["messages"]:
            content = message.get("content")
            if message["role"] == "user":
                said = content
            elif message["role"] == "assistant" and content and said and len(said) >= 25 and len(content) >= 25:
                yield said, content
                said = None


def functions(folder, held_out):
    """The first paragraph of a docstring, and the function without it."""
    for index, record in enumerate(corpus.records(folder, "python_stdlib")):
        if (index % MODULES_HELD_OUT == 0) != held_out:
            continue
        try:
            tree = ast.parse(record["text"])
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (doc := ast.get_docstring(node)):
                first = " ".join(doc.split("\n\n")[0].split())
                body = node.body[1:]
                if len(first) >= 25 and body:
                    lines = record["text"].split("\n")
                    head = lines[node.lineno - 1:node.body[0].lineno - 1]
                    rest = lines[body[0].lineno - 1:body[-1].end_lineno]
                    yield first, "\n".join(head + rest)[:700]


def tools(folder, split):
    """What a tool is for, and its parameters."""
    schemas = json.loads((pathlib.Path(folder) / "sgd_tools.json").read_text())[split]
    for name, schema in schemas.items():
        yield schema["description"], f"{name} {json.dumps(schema['parameters'])}"[:500]


def training(folder, seed):
    """All training pairs by source: prose in the order of the books, the others shuffled."""
    rng = random.Random(seed)
    sources = {
        "prose": list(prose(folder, ["prose_train_a", "prose_train_b"], rng, passes=3)),
        "dialogues": list(dialogues(folder, "sgd_train")),
        "functions": list(functions(folder, held_out=False)) + list(tools(folder, "train")),
    }
    rng.shuffle(sources["dialogues"])
    rng.shuffle(sources["functions"])
    return sources


def held_out(folder, seed, most):
    """Pairs that training never saw, by source: (query, document) where no document comes twice."""
    rng = random.Random(seed)

    def distinct(pairs):
        seen = {}
        for query, document in pairs:
            seen.setdefault(document, query)
        kept = [(query, document) for document, query in seen.items()]
        rng.shuffle(kept)
        return kept[:most]

    def strict_prose():
        for record in corpus.records(folder, "prose_val"):
            for sentences in passages(record["text"]):
                fit = [i for i, s in enumerate(sentences) if len(s) >= QUERY_CHARS_MIN]
                if fit and len(sentences) > 1:
                    chosen = rng.choice(fit)
                    yield sentences[chosen], " ".join(sentences[:chosen] + sentences[chosen + 1:])

    return {
        "books": distinct(strict_prose()),
        "dialogues": distinct(dialogues(folder, "sgd_dev")),
        "functions": distinct(functions(folder, held_out=True)),
    }
