"""Short tasks with one right answer: simple knowledge, arithmetic, words, lists, copying, JSON."""

import chat
import facts
import talk
from talk import said, wording


def article(noun):
    return noun.split(" ", 1)[-1]


def capital(rng):
    country = rng.choice(list(facts.COUNTRIES))
    city, continent, language, currency = facts.COUNTRIES[country]
    title = country[0].upper() + country[1:]
    kind = rng.random()
    if kind < 0.5:
        question = wording("What is the capital of {c}|What's the capital of {c}|Which city is the capital of {c}|Name the capital of {c}"
                           "|Tell me the capital of {c}|{c} capital|Do you know the capital of {c}|What is the capital city of {c}"
                           "|Can you tell me the capital of {c}|capital of {c}|What city is the capital of {c}|What is {c}'s capital", rng)
        return said(question.replace("{c}", country), rng), f"The capital of {country} is {city.rstrip('.')}."
    if kind < 0.65:
        question = wording("{x} is the capital of which country|Which country has the capital {x}|Of which country is {x} the capital", rng)
        return said(question.replace("{x}", city), rng), f"{city} is the capital of {country}."
    if kind < 0.78:
        question = wording("Where is {c}|On which continent is {c}|Which continent is {c} (in|on)|In which continent does {c} lie", rng)
        where = "is in" if continent != "Australia" else "is in"
        return said(question.replace("{c}", country), rng), f"{title} {where} {continent}."
    if kind < 0.9:
        question = wording("(Which|What) language (is spoken|do people speak|do they speak) in {c}|What is the language of {c}", rng)
        return said(question.replace("{c}", country), rng), f"People in {country} speak {language}."
    question = wording("(What is the currency|What is the money) of {c}|(Which|What) currency does {c} (use|have)|What currency is used in {c}", rng)
    return said(question.replace("{c}", country), rng), f"The currency of {country} is the {currency}."


def knowledge(rng):
    kind = rng.randrange(13)
    if kind == 0:
        thing, colour = rng.choice(list(facts.COLOURS.items()))
        question = wording("What colou?r is {x}|Which colou?r (is|has) {x}|What is the colou?r of {x}|Tell me the colou?r of {x}", rng)
        return said(question.replace("{x}", thing), rng), f"{thing[0].upper() + thing[1:]} is {colour}."
    if kind == 1:
        pair = rng.choice(facts.OPPOSITES)
        one, other = pair if rng.random() < 0.5 else pair[::-1]
        question = wording("What is the opposite of {x}|opposite of {x}|Give me the opposite of {x}|What's the opposite of '{x}'|Tell me the opposite of {x}", rng)
        return said(question.replace("{x}", one), rng), f"The opposite of {one} is {other}."
    if kind == 2:
        animal, sound = rng.choice(list(facts.SOUNDS.items()))
        question = wording("What sound does a {x} make|What does a {x} (say|do)|How does a {x} sound|What noise does a {x} make", rng)
        return said(question.replace("{x}", animal), rng), f"A {animal} {sound}."
    if kind == 3:
        animal, legs = rng.choice(list(facts.LEGS.items()))
        question = wording("How many legs does {x} have|How many legs has {x}|Tell me how many legs {x} has", rng)
        return said(question.replace("{x}", animal), rng), f"{animal[0].upper() + animal[1:]} has {facts.NUMBERS[legs] if legs else 'no'} legs."
    if kind == 4:
        animal, baby = rng.choice(list(facts.BABIES.items()))
        question = wording("What is a (baby|young) {x} called|What do you call a (baby|young) {x}|What is the name of a baby {x}", rng)
        return said(question.replace("{x}", animal), rng), f"A young {animal} is called a {baby}."
    if kind == 5:
        shape, sides = rng.choice([item for item in facts.SIDES.items() if item[0] != "cube"])
        question = wording("How many sides does a {x} have|How many sides has a {x}|How many (corners|sides) does a {x} have", rng)
        what = "corners" if "corners" in question else "sides"
        return said(question.replace("{x}", shape), rng), f"A {shape} has {facts.NUMBERS[sides]} {what}."
    if kind in (6, 7):
        series, name = (facts.DAYS, "day") if kind == 6 else (facts.MONTHS, "month")
        index, after = rng.randrange(len(series)), rng.random() < 0.5
        question = wording("(What|Which) {n} (comes|is) {w} {x}|What {n} is {w} {x}|Which {n} comes {w} {x}", rng)
        word, step = ("after", 1) if after else ("before", -1)
        question = question.replace("{n}", name).replace("{w}", word).replace("{x}", series[index])
        return said(question, rng), f"{series[(index + step) % len(series)]} comes {word} {series[index]}."
    if kind == 8:
        unit, whole, count = rng.choice(facts.UNITS)
        question = wording("How many {u} are (there |)in {w}|How many {u} does {w} have|How many {u} make {w}", rng)
        return said(question.replace("{u}", unit).replace("{w}", whole), rng), f"There are {count} {unit} in {whole}."
    if kind == 9:
        word, other, what = rng.choice([(k, v, "plural") for k, v in facts.PLURALS.items()] + [(k, v, "past tense") for k, v in facts.PAST.items()])
        question = wording("What is the {w} of {x}|Give me the {w} of '{x}'|{w} of {x}|What's the {w} of the word {x}", rng)
        return said(question.replace("{w}", what).replace("{x}", word), rng), f"The {what} of {word} is {other}."
    if kind == 10:
        thing, meaning = rng.choice(list(facts.MEANINGS.items()))
        question = wording("What is {x}|What's {x}|Explain {x}|What does {x} mean|Define {x}|Tell me what {x} is|Can you explain (to me |)what {x} is", rng)
        return said(question.replace("{x}", thing), rng), meaning
    question, answer = rng.choice(facts.GENERAL)
    return said(wording(question, rng), rng), answer


def small_sum(rng):
    """Sums that the model can learn by heart or nearly so."""
    kind = rng.random()
    if kind < 0.45:
        a, b = rng.randrange(0, 100), rng.randrange(0, 100)
        if rng.random() < 0.4:
            a, b = a % 21, b % 21
        sign, result, word = "+", a + b, "plus"
    elif kind < 0.75:
        a, b = sorted((rng.randrange(0, 100), rng.randrange(0, 100)), reverse=True)
        if rng.random() < 0.4:
            a, b = sorted((a % 21, b % 21), reverse=True)
        sign, result, word = "-", a - b, "minus"
    else:
        a, b = rng.randrange(0, 13), rng.randrange(0, 13)
        sign, result, word = rng.choice("*x"), a * b, "times"
    form = wording("What is {e}|What's {e}|{e}|{e} =|Calculate {e}|How much is {e}|Compute {e}|Please calculate {e}|Can you work out {e}|What does {e} equal|Solve {e}|Add it up: {e}", rng)
    if form.startswith("Add") and sign != "+":
        form = "Work out {e}"
    shown = f"{a} {word} {b}" if rng.random() < 0.2 else f"{a} {sign} {b}" if rng.random() < 0.85 else f"{a}{sign}{b}"
    return said(form.replace("{e}", shown), rng), f"{a} {sign if sign != '*' else 'x'} {b} = {result}."


def big_sum(rng):
    a, b, sign = rng.randrange(200, 99999), rng.randrange(100, 9999), rng.choice("+-*/")
    form = wording("What is {e}|{e}|Calculate {e}|How much is {e}|Compute {e}|What's {e}", rng)
    return (said(form.replace("{e}", f"{a} {sign} {b}"), rng),
            "Numbers that large are too hard for me. Give me a calculator tool, or ask a bigger model.")


def compare(rng):
    a, b = rng.sample(range(100), 2)
    if rng.random() < 0.5:
        question = wording("Which (number |)is (bigger|larger|greater), {a} or {b}|What is (bigger|larger), {a} or {b}", rng)
        return said(question.replace("{a}", str(a)).replace("{b}", str(b)), rng), f"{max(a, b)} is larger."
    question = wording("Which (number |)is smaller, {a} or {b}|What is smaller, {a} or {b}", rng)
    return said(question.replace("{a}", str(a)).replace("{b}", str(b)), rng), f"{min(a, b)} is smaller."


def counting(rng):
    kind = rng.randrange(4)
    if kind == 0:
        start, end = rng.choice([(1, rng.randrange(3, 16)), (1, 10), (1, 5), (rng.randrange(2, 20), 0)])
        end = end or start + rng.randrange(3, 8)
        question = wording("Count (from {a} |)to {b}|Count from {a} to {b}|(List|Write|Give me) the numbers from {a} to {b}", rng)
        if "{a}" not in question and start != 1:
            question = "Count from {a} to {b}"
        return (said(question.replace("{a}", str(start)).replace("{b}", str(end)), rng),
                ", ".join(map(str, range(start, end + 1))) + ".")
    items = rng.sample(facts.FRUITS + facts.THINGS, rng.randrange(2, 8))
    if kind == 1:
        question = wording("How many items are in this list: {l}|Count the items: {l}|How many words are here: {l}|How many things are in the list {l}", rng)
        return question.replace("{l}", ", ".join(items)), f"There are {len(items)} {'words' if 'words' in question else 'items'}."
    if kind == 2:
        end = rng.randrange(3, 11) * 10
        return said(f"Count down from {end // 10} to 1", rng), ", ".join(map(str, range(end // 10, 0, -1))) + "."
    number = rng.randrange(0, 30)
    question = wording("(What|Which) number (comes|is) after {x}|What is the next number after {x}", rng)
    return said(question.replace("{x}", str(number)), rng), f"{number + 1} comes after {number}."


def phrase(rng):
    words = [rng.choice(facts.WORDS) if rng.random() < 0.75 else talk.pseudo_word(rng) for _ in range(rng.randrange(1, 7))]
    return " ".join(words)


def copying(rng):
    kind = rng.randrange(6)
    if kind < 2:
        text = phrase(rng)
        if rng.random() < 0.5:
            text = text[0].upper() + text[1:] + "."
        question = wording("Repeat after me: {t}|Repeat this: {t}|Say: {t}|Copy this text: {t}|Write exactly this: {t}|Echo: {t}|Repeat the following: {t}|Please say '{t}'", rng)
        return question.replace("{t}", text), text
    if kind == 2:
        items = rng.sample(facts.FRUITS + facts.THINGS, rng.randrange(2, 6))
        question = wording("Make a (bulleted |)list of these: {t}|Write these as a list: {t}|Put this into a bulleted list: {t}|Turn this into a list: {t}", rng)
        return question.replace("{t}", ", ".join(items)), "\n".join("- " + item for item in items)
    if kind == 3:
        items = rng.sample(facts.WORDS, rng.randrange(2, 5))
        question = wording("Reverse (this|the) list: {t}|Write these in reverse order: {t}|Say these words backwards: {t}", rng)
        return question.replace("{t}", ", ".join(items)), ", ".join(items[::-1])
    if kind == 4:
        items = sorted(rng.sample(facts.FIRST_NAMES, rng.randrange(2, 5)))
        first = rng.random() < 0.5
        shuffled = rng.sample(items, len(items))
        question = wording("What is the {w} (name|word) (in|of) this list: {t}|Which (name|word) is {w} in the list {t}", rng)
        answer = shuffled[0] if first else shuffled[-1]
        return question.replace("{w}", "first" if first else "last").replace("{t}", ", ".join(shuffled)), answer
    word = rng.choice(facts.WORDS)
    upper = rng.random() < 0.6
    question = wording("Write {t} in {w}|Put {t} in {w}|Turn {t} into {w}|{t} in {w}, please", rng)
    return (question.replace("{t}", f"'{word if upper else word.upper()}'").replace("{w}", "upper case" if upper else "lower case"),
            word.upper() if upper else word)


def person(rng):
    name = rng.choice(facts.FIRST_NAMES) + " " + rng.choice(facts.LAST_NAMES)
    if rng.random() < 0.25:
        name = talk.pseudo_word(rng).capitalize() + " " + talk.pseudo_word(rng).capitalize()
    return {"name": name, "age": rng.randrange(18, 90), "city": rng.choice(facts.CITIES), "job": rng.choice(facts.JOBS),
            "email": name.split()[0].lower() + rng.choice(["@example.com", "@mail.org", str(rng.randrange(100)) + "@test.net"]),
            "phone": "-".join(str(rng.randrange(100, 999)) for _ in range(2)), "country": rng.choice(list(facts.COUNTRIES))}


def person_text(who, keys, rng):
    name = who["name"]
    parts = {"age": [f"{name} is {who['age']} years old", f"the age of {name} is {who['age']}"],
             "city": [f"{name} lives in {who['city']}", f"{name} is from {who['city']}", f"{name} comes from {who['city']}"],
             "job": [f"{name} works as a {who['job']}", f"{name} is a {who['job']}"],
             "email": [f"the email address of {name} is {who['email']}", f"you can write to {who['email']}"],
             "phone": [f"the phone number of {name} is {who['phone']}", f"call {who['phone']}"],
             "country": [f"{name} is a citizen of {who['country']}"]}
    if set(keys) == {"name", "age", "city"} and rng.random() < 0.6:
        return rng.choice([f"{name}, {who['age']}, lives in {who['city']}.", f"{name} is {who['age']} years old and lives in {who['city']}.",
                           f"My name is {name}, I am {who['age']} and I live in {who['city']}."])
    sentences = [rng.choice(parts[key]) for key in keys if key != "name"] or [f"This is {name}"]
    rng.shuffle(sentences)
    if not any(name in sentence for sentence in sentences):
        sentences.insert(0, f"this is about {name}")
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def order(rng):
    return {"item": rng.choice(facts.THINGS), "quantity": rng.randrange(2, 30), "price": rng.randrange(3, 200),
            "color": rng.choice(["red", "blue", "green", "black", "white"]), "date": rng.choice(facts.DAYS)}


def order_text(what, rng):
    return rng.choice([f"I bought {what['quantity']} {what['color']} {what['item']}s for {what['price']} dollars on {what['date']}.",
                       f"On {what['date']} we ordered {what['quantity']} {what['color']} {what['item']}s at {what['price']} dollars.",
                       f"Please send {what['quantity']} {what['item']}s in {what['color']} for {what['price']} dollars by {what['date']}."])


def extraction(rng):
    """A text and the wanted fields, or a JSON schema; the answer is one JSON object and nothing else."""
    if rng.random() < 0.7:
        who = person(rng)
        keys = rng.sample(["name", "age", "city", "job", "email", "phone"], rng.randrange(2, 5))
        if rng.random() < 0.35:
            keys = ["name", "age", "city"]
        text = person_text(who, keys, rng)
        who, keys = (who, keys)
        values = {key: who[key] for key in keys}
    else:
        what = order(rng)
        text = order_text(what, rng)
        keys = rng.sample(list(what), rng.randrange(2, 5))
        values = {key: what[key] for key in keys}
    if rng.random() < 0.5:
        form = wording("Extract {k} as JSON: {t}|Extract {k} from this text as JSON.\n\n{t}|Return a JSON object with {k} for this text: {t}"
                       "|{t}\n\nGive me {k} as JSON.|Give me {k} as a JSON object: {t}|From the text, extract {k} in JSON. Text: {t}", rng)
        listed = ", ".join(keys[:-1]) + " and " + keys[-1] if len(keys) > 1 else keys[0]
        question = form.replace("{k}", listed)
    else:
        types = {key: {"type": "integer" if isinstance(value, int) else "string"} for key, value in values.items()}
        schema = chat.to_json({"type": "object", "properties": types, "required": keys})
        form = wording("Answer in JSON by this schema: {s}\n\n{t}|Fill this JSON schema from the text. Schema: {s} Text: {t}|{t}\n\nAnswer with JSON that follows this schema: {s}", rng)
        question = form.replace("{s}", schema)
    return question.replace("{t}", text), chat.to_json(values)


def told(rng):
    """Facts that the user gives in one turn and asks for in a later one: four messages."""
    name, city = rng.choice(facts.FIRST_NAMES), rng.choice(facts.CITIES)
    if rng.random() < 0.3:
        name = talk.pseudo_word(rng).capitalize()
    kind = rng.randrange(4)
    if kind < 2:
        first = wording("My name is {n}|I am {n}|I'm {n}|Hello, my name is {n}|Hi, I'm {n}|You can call me {n}|Hello, I am {n}", rng).replace("{n}", name)
        ask = wording("What is my name|What's my name|Do you know my name|Who am I|Do you remember my name|Tell me my name", rng)
        return [(first + rng.choice([".", "", "!"]), f"Nice to meet you, {name}! How can I help you?"), (said(ask, rng), f"Your name is {name}.")]
    if kind == 2:
        first = wording("I live in {c}|I am from {c}|My home is in {c}|I come from {c}", rng).replace("{c}", city)
        return [(first + ".", f"{city} sounds like a nice place. How can I help you?"),
                (said(wording("Where do I live|Where am I from|In which city do I live|Do you remember where I live", rng), rng), f"You live in {city}." if "live" in first or "home" in first else f"You are from {city}.")]
    thing, colour = rng.choice(facts.THINGS), rng.choice(["red", "blue", "green", "black", "white", "yellow"])
    return [(f"My {thing} is {colour}.", f"A {colour} {thing}, good to know."),
            (said(f"What colour is my {thing}", rng), f"Your {thing} is {colour}.")]
