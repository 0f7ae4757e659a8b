"""Conversations with tools: calling one, reading its result, asking for what is missing, calling none."""

import chat
import facts
import quiz
import talk
import toolbox

NO_TOOL = ["I have no tool for that.", "None of my tools can do that.", "Sorry, none of my tools fits that request."]
THINK_SHARE = 0.08


class Offer:
    """A row of the bank as it is offered in one conversation: under one name, with its own parameter names."""

    def __init__(self, row, rng):
        names, descriptions, slots, self.requests, self.result, self.answers = row
        self.name, self.slots = rng.choice(names), slots
        self.described = rng.choice(descriptions)
        self.keys = {key: rng.choice(toolbox.RENAMED.get(key, [key])) if rng.random() < 0.7 else key for key in slots}
        if len(set(self.keys.values())) < len(slots):
            self.keys = {key: key for key in slots}
        self.schema = self.make_schema(rng)

    def make_schema(self, rng):
        properties = {}
        with_description = rng.random() < 0.5
        for key, kind in self.slots.items():
            value = {"type": "integer" if kind in toolbox.INTEGERS else "string"} if isinstance(kind, str) else {"type": "string"}
            if with_description:
                value["description"] = rng.choice(toolbox.DESCRIBED.get(key, [f"The {key.replace('_', ' ')}"]))
            if isinstance(kind, list):
                value["enum"] = kind
            properties[self.keys[key]] = value
        if "city" in self.slots and len(self.slots) == 1 and rng.random() < 0.3:
            properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        parameters = {"type": "object", "properties": properties, "required": list(self.keys.values())}
        if rng.random() < 0.12:
            parameters["additionalProperties"] = False
        function = {"name": self.name, "description": self.described, "parameters": parameters}
        if rng.random() < 0.05:
            function = {"name": self.name, "parameters": parameters}
        elif rng.random() < 0.06:
            function["strict"] = True
        return {"type": "function", "function": function}

    def request(self, rng):
        """A user's wording and the arguments that it means."""
        if self.slots == {"expression": "expression"}:
            return expression(rng, self.keys)
        values = {}
        for key, kind in self.slots.items():
            values[key] = rng.choice(kind) if isinstance(kind, list) else toolbox.KINDS[kind](rng)
        text = talk.wording(rng.choice(self.requests), rng).replace("'?", "")
        for key, value in values.items():
            text = text.replace("{" + key + "}", str(value))
        return talk.said(text, rng) if not any(kind in ("code", "symbol", "word", "person", "text", "title", "email") for kind in self.slots.values() if isinstance(kind, str)) else kept_case(text, rng), values

    def arguments(self, values):
        return {self.keys[key]: value for key, value in values.items()}


def kept_case(text, rng):
    """Values that must be copied letter by letter: only the mark at the end varies."""
    starts = text.split(" ", 1)[0] in ("What", "Where", "How", "When", "Can", "Could", "Is", "Which")
    return text + ("?" if starts and rng.random() < 0.8 else rng.choice([".", "", ""]) if text[-1].isalnum() else "")


def expression(rng, keys):
    parts = [str(rng.randrange(1, rng.choice([20, 100, 100, 1000, 100000])))]
    for _ in range(rng.choice([1, 1, 1, 2])):
        parts += [rng.choice("+-*/+*"), str(rng.randrange(1, rng.choice([20, 100, 1000])))]
    shown = " ".join(parts)
    words = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
    spoken = " ".join(words.get(part, part) for part in parts) if rng.random() < 0.25 else shown
    form = talk.wording("What is {e}|What's {e}|Calculate {e}|How much is {e}|{e}|Compute {e}|Please calculate {e}|Use the calculator: {e}"
                        "|I need the result of {e}|Can you work out {e}|What does {e} equal|Evaluate {e}|What do you get for {e}", rng)
    return talk.said(form.replace("{e}", spoken), rng), {"expression": shown}


def calculated(text):
    """The value of an expression of numbers and + - * /, with two decimals at most."""
    tokens = text.split()
    terms, sign = [], 1
    value = float(tokens[0])
    for operator, operand in zip(tokens[1::2], tokens[2::2]):
        if operator in "*/":
            value = value * float(operand) if operator == "*" else value / float(operand)
        else:
            terms.append(sign * value)
            sign, value = (1 if operator == "+" else -1), float(operand)
    total = round(sum(terms) + sign * value, 2)
    return int(total) if total == int(total) else total


def offers(rng, held, count):
    """`count` tools with different names; the first is the one that will be wanted."""
    chosen, names = [], set()
    while len(chosen) < count:
        if held and not chosen:
            row = rng.choice(toolbox.HELD_BANK) if rng.random() < 0.5 else toolbox.invented(rng)
        elif rng.random() < 0.62:
            draw = rng.random()
            row = toolbox.BANK[0] if draw < 0.15 else toolbox.BANK[1] if draw < 0.32 else rng.choice(toolbox.BANK)
        else:
            row = toolbox.invented(rng)
        offer = Offer(row, rng)
        if offer.name not in names and all(offer.described != other.described for other in chosen):
            chosen.append(offer)
            names.add(offer.name)
    return chosen


def final_answer(offer, values, result, rng):
    if offer.slots == {"expression": "expression"}:
        return rng.choice(["{e} = {r}.", "The result is {r}.", "{e} is {r}."]).replace("{e}", values["expression"]).replace("{r}", str(result["result"]))
    text = rng.choice(offer.answers)
    for key, value in {**values, **result}.items():
        text = text.replace("{" + key + "}", str(value))
    return text[0].upper() + text[1:]


def one_call(offer, rng):
    """User, call, result, answer."""
    text, values = offer.request(rng)
    asked = {"role": "assistant", "content": "", "tool_calls": [chat.call(offer.name, offer.arguments(values))]}
    if offer.slots == {"expression": "expression"}:
        result = {"result": calculated(values["expression"])}
    else:
        result = offer.result(rng, values)
    answer = final_answer(offer, values, result, rng)
    if rng.random() < 0.06:
        reason = rng.choice(["not found", "timeout", "no permission", "service unavailable"])
        result, answer = {"error": reason}, f"Sorry, the tool reported an error: {reason}."
    shown = chat.to_json(result)
    if len(result) == 1 and "error" not in result and rng.random() < 0.3:
        shown = str(next(iter(result.values())))
    if offer.name.lower().find("weather") >= 0 and "error" not in result and rng.random() < 0.3:
        shown = f"{result['temperature']} degrees, {result['condition']}"
    return [{"role": "user", "content": text}, asked, {"role": "tool", "content": shown}, {"role": "assistant", "content": answer}]


def thought(offer, rng):
    return rng.choice([f"The tool {offer.name} fits.", f"I can use {offer.name} for this.", f"This needs {offer.name}."])


def with_call(rng, held):
    """Most conversations: a tool fits. Ends behind the call, or behind the answer that reads its result."""
    tools = offers(rng, held, rng.choice([1, 1, 1, 2, 2, 3]))
    wanted = tools[0]
    listed = rng.sample(tools, len(tools))
    messages = []
    if not held and rng.random() < 0.2:
        messages += [{"role": role, "content": text} for pair in [plain_pair(rng)] for role, text in zip(("user", "assistant"), pair)]
    turn = one_call(wanted, rng)
    if not held and rng.random() < 0.12:
        messages += turn
        turn = one_call(wanted if rng.random() < 0.5 else rng.choice(tools), rng)
    if rng.random() < 0.6:
        turn = turn[:2]
    if rng.random() < THINK_SHARE and len(turn) == 2:
        turn[1] = {**turn[1], "reasoning_content": thought(wanted, rng)}
    messages += turn
    return messages, [offer.schema for offer in listed]


def plain_pair(rng):
    return rng.choice([talk.small_talk, talk.small_talk, talk.about_self, talk.about_sampan, quiz.capital, quiz.knowledge])(rng)


def without_call(rng, held):
    """Tools are there, but the user only talks, or wants what none of them does."""
    tools = offers(rng, held, rng.choice([1, 1, 2, 2, 3]))
    if rng.random() < 0.5:
        question, answer = plain_pair(rng)
    else:
        other = Offer(rng.choice(toolbox.BANK), rng)
        while other.requests is None or any(set(other.name.lower().split("_")) & set(tool.name.lower().split("_"))
                                            or other.described == tool.described or "search" in tool.name.lower() for tool in tools):
            other = Offer(rng.choice(toolbox.BANK), rng)
            if any("search" in tool.name.lower() for tool in tools):
                tools = [tool for tool in tools if "search" not in tool.name.lower()] or offers(rng, held, 1)
        question, _ = other.request(rng)
        answer = rng.choice(NO_TOOL)
    return ([{"role": "user", "content": question}, {"role": "assistant", "content": answer}], [tool.schema for tool in tools])


MISSING = [("weather", "city", "(What is|How is|What's) the weather( like|)|Will it rain|How warm is it|Tell me the weather|weather please|Check the weather", ["For which city?", "Which city do you mean?"]),
           ("timer", "minutes", "(Set|Start) a timer|I need a timer|Timer please", ["For how many minutes?"]),
           ("translat", "language", "Translate something( for me|)|I need a translation|Can you translate", ["What should I translate, and into which language?"]),
           ("order", "order_id", "Where is my order|(Track|Check) my order", ["What is the order number?"])]


def missing(rng, held):
    """The user leaves out what the tool needs: ask, then call when it is told."""
    word, key, pattern, answers = rng.choice(MISSING[:1] * 3 + MISSING)
    row = next(row for row in toolbox.BANK if any(word in name for name in row[0]) and key in row[2])
    offer = Offer(row, rng)
    asked = [{"role": "user", "content": talk.said(talk.wording(pattern, rng), rng)}, {"role": "assistant", "content": rng.choice(answers)}]
    if len(row[2]) == 1 and rng.random() < 0.6:
        value = toolbox.KINDS[row[2][key]](rng)
        reply = talk.wording("{v}|In {v}|{v} please|For {v}" if key == "city" else "{v}|{v} please|It is {v}" if key == "order_id" else "{v}|{v} minutes", rng).replace("{v}", str(value))
        asked += [{"role": "user", "content": reply}, {"role": "assistant", "content": "", "tool_calls": [chat.call(offer.name, offer.arguments({key: value}))]}]
    return asked, [offer.schema]


def two_cities(rng, held):
    """Two calls in one turn."""
    offer = Offer(rng.choice([toolbox.BANK[0], toolbox.BANK[0], toolbox.BANK[10]]), rng)
    one, two = rng.sample(facts.CITIES, 2)
    what = "weather" if "eather" in offer.name else "time"
    text = talk.wording("What is the {w} in {a} and (in |){b}|Compare the {w} in {a} and {b}|{w} in {a} and {b}|Tell me the {w} in {a} and in {b}", rng)
    text = talk.said(text.replace("{w}", what).replace("{a}", one).replace("{b}", two), rng)
    calls = [chat.call(offer.name, offer.arguments({"city": city})) for city in (one, two)]
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "", "tool_calls": calls}], [offer.schema]
