"""Tools for the generated conversations: a bank of believable ones, and invented ones without end.

A row of the bank: names, description, parameters {name: kind or enum list}, requests with {parameter} slots,
a maker of the result, and sentences for the final answer over arguments and result. The first name that is tried in a
conversation is drawn at random, parameters may be renamed, so that names must be read from the prompt.
"""

import facts
import talk

RENAMED = {"city": ["city", "location", "place", "city_name", "town"], "expression": ["expression", "expr", "formula", "input"],
           "query": ["query", "q", "search_term", "keywords"], "text": ["text", "message", "content", "input_text"],
           "person": ["person", "name", "contact", "recipient"], "minutes": ["minutes", "duration", "length_minutes"],
           "symbol": ["symbol", "ticker"], "to": ["to", "recipient", "address"], "item": ["item", "product", "name"]}
DESCRIBED = {"city": ["The city", "Name of the city", "The city, for example Paris", "City and country, e.g. Paris, France", "The city to look up"],
             "expression": ["The expression to evaluate", "An arithmetic expression", "A formula such as 2 + 2"],
             "query": ["What to search for", "The search words"], "text": ["The text", "The text to use"]}


def number(low, high):
    return lambda rng: rng.randrange(low, high)


def title(rng):
    return rng.choice(["buy milk", "call mum", "pay the rent", "water the plants", "feed the cat", "clean the kitchen", "write the report",
                       "book the flight", "fix the bike", "send the letter", talk.pseudo_word(rng) + " meeting", "walk the dog", "read the book"])


def topic(rng):
    return rng.choice(["old boats", "red shoes", "cheap flights", "green tea", "the history of Rome", "robots", "jazz music", "solar power",
                       "garden ideas", "bread recipes", "city maps", "wild birds", "open source licences", talk.pseudo_word(rng),
                       talk.pseudo_word(rng) + " " + rng.choice(facts.WORDS), rng.choice(facts.WORDS) + " " + rng.choice(facts.WORDS)])


def sentence(rng):
    return rng.choice(["I am late", "good morning", "the train is here", "see you soon", "where is the station", "thank you very much",
                       "dinner is ready", "I am at home", "the meeting starts now", "call me back", "happy birthday",
                       "the " + rng.choice(facts.WORDS) + " is " + rng.choice(["here", "gone", "broken", "ready"])])


def clock(rng):
    return f"{rng.randrange(0, 24):02d}:{rng.choice(['00', '15', '30', '45'])}"


def day(rng):
    return rng.choice(facts.DAYS + ["today", "tomorrow"])


def email(rng):
    return rng.choice(facts.FIRST_NAMES).lower() + rng.choice(["@example.com", "@mail.org", "@test.net"])


def code(rng):
    return rng.choice("ABCDEFGHKLMNPRTX") + rng.choice("ABCDEFGHKLMNPRTX") + str(rng.randrange(10, 9999))


def city(rng):
    return rng.choice(facts.CITIES) if rng.random() < 0.85 else talk.pseudo_word(rng).capitalize()


def person(rng):
    return rng.choice(facts.FIRST_NAMES) if rng.random() < 0.8 else talk.pseudo_word(rng).capitalize()


KINDS = {"city": city, "person": person, "query": topic, "text": sentence, "title": title, "time": clock, "day": day, "email": email,
         "code": code, "item": lambda rng: rng.choice(facts.THINGS), "minutes": number(1, 91), "amount": number(2, 900),
         "quantity": number(2, 40), "degrees": number(10, 30), "percent": number(1, 101), "word": lambda rng: rng.choice(facts.WORDS),
         "country": lambda rng: rng.choice(list(facts.COUNTRIES)), "song": topic, "symbol": lambda rng: "".join(rng.choice("ABCDEFGKLMNOPRST") for _ in range(rng.choice([3, 4]))),
         "room": lambda rng: rng.choice(["kitchen", "bedroom", "office", "hall", "garage", "bathroom", "garden"])}
INTEGERS = {"minutes", "amount", "quantity", "degrees", "percent"}
SKY = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear"]

# names | description | parameters | requests | result | answers
BANK = [
    (["get_weather", "get_current_weather", "weather", "fetch_weather", "current_weather", "weather_lookup", "getWeather"],
     ["Get the current weather for a city.", "Get current weather in a given location", "Returns the weather of a place.", "Get current temperature for a given location."], {"city": "city"},
     ["(What is|What's|How is|How's|Tell me|Check|Show me|Get) the weather in {city}( now| right now| today|)|(What is|What's) the weather like in {city}( today|)|weather in {city}|{city} weather"
      "|(How warm|How cold|How hot) is it in {city}|What is the temperature in {city}|Is it (sunny|raining|cold|warm) in {city}|Do I need an umbrella in {city}|Will it rain in {city}( today|)|I am going to {city}, what is the weather there"],
     lambda rng, a: {"temperature": rng.randrange(-5, 36), "condition": rng.choice(SKY)},
     ["It is {temperature} degrees and {condition} in {city}.", "The weather in {city} is {condition}, with {temperature} degrees."]),
    (["calculator", "calculate", "compute", "math", "evaluate", "calc", "evaluate_expression"],
     ["Evaluate an arithmetic expression.", "Calculates the result of a formula.", "A simple calculator."], {"expression": "expression"}, None, None, None),
    (["search", "web_search", "search_web", "google_search", "find_pages", "searchWeb"], ["Search the web.", "Search the internet for pages."], {"query": "query"},
     ["Search (the web |the internet |)for {query}|Find (pages|information|something) about {query}|Look up {query}( on the web| online|)|(Google|Search) {query}|I need information about {query}"],
     lambda rng, a: {"title": "All about " + a["query"], "url": f"https://{talk.pseudo_word(rng)}.example"}, ["I found \"{title}\" at {url}."]),
    (["set_timer", "start_timer", "timer", "create_timer"], ["Start a timer.", "Sets a timer for some minutes."], {"minutes": "minutes"},
     ["(Set|Start) a timer for {minutes} minutes|{minutes} minute timer|Wake me in {minutes} minutes|Timer: {minutes} minutes|(Please |)(count|time) {minutes} minutes"],
     lambda rng, a: {"status": "started"}, ["The timer is set for {minutes} minutes."]),
    (["send_email", "email", "mail_send", "sendEmail"], ["Send an email."], {"to": "email", "text": "text"},
     ["(Send an email|Write) to {to}( saying|:) {text}|Email {to}: {text}|Mail {to} that {text}|Tell {to} by email: {text}"], lambda rng, a: {"status": "sent"}, ["The email to {to} was sent."]),
    (["send_message", "send_sms", "text_message", "message_contact"], ["Send a text message to a contact.", "Send an SMS."], {"person": "person", "text": "text"},
     ["(Send a message|Write) to {person}( saying|:) {text}|(Text|Message) {person}: {text}|Tell {person} that {text}|Send {person} the message '{text}'"], lambda rng, a: {"status": "sent"}, ["Your message to {person} was sent."]),
    (["add_task", "create_todo", "add_todo", "new_task", "create_task"], ["Add a task to the list.", "Create a to-do entry."], {"title": "title"},
     ["(Add|Put) '?{title}'? (to|on) my (list|to-do list|tasks)|(Create|Make) a task: {title}|I must not forget: {title}|New task: {title}"], lambda rng, a: {"id": rng.randrange(1, 99)}, ["The task \"{title}\" was added.", "I added \"{title}\" to your list."]),
    (["set_reminder", "create_reminder", "remind", "add_reminder"], ["Create a reminder at a time."], {"title": "title", "time": "time"},
     ["Remind me (at {time} to {title}|to {title} at {time})|(Set|Create) a reminder at {time}: {title}"], lambda rng, a: {"status": "ok"}, ["I will remind you at {time}: {title}."]),
    (["translate", "translate_text", "translator"], ["Translate a text into another language."], {"text": "text", "language": ["French", "German", "Spanish", "Italian", "Japanese", "Chinese"]},
     ["Translate '{text}' (into|to) {language}|How do you say '{text}' in {language}|What is '{text}' in {language}"],
     lambda rng, a: {"translation": " ".join(talk.pseudo_word(rng) for _ in range(3))}, ["In {language} it is: {translation}", "The translation is: {translation}"]),
    (["get_stock_price", "stock_price", "quote", "get_quote"], ["Get the price of a stock."], {"symbol": "symbol"},
     ["What is the (stock |share |)price of {symbol}|How is {symbol} doing|Price of {symbol} stock|(Get|Show|Check) the stock price of {symbol}"],
     lambda rng, a: {"price": rng.randrange(5, 900), "currency": "USD"}, ["The price of {symbol} is {price} {currency}."]),
    (["get_time", "current_time", "time_in_city", "get_local_time"], ["Get the local time of a city."], {"city": "city"},
     ["What time is it in {city}( now|)|What is the (local |)time in {city}|Time in {city}|Tell me the time in {city}"], lambda rng, a: {"time": clock(rng)}, ["It is {time} in {city}."]),
    (["play_music", "play_song", "start_music", "playSong"], ["Play music."], {"song": "song"},
     ["Play {song}|(Play|Put on) the song {song}|I want to hear {song}|Start the music: {song}"], lambda rng, a: {"status": "playing"}, ["Now playing {song}."]),
    (["set_temperature", "thermostat", "set_heating"], ["Set the temperature of a room."], {"room": "room", "degrees": "degrees"},
     ["Set the {room} to {degrees} degrees|Make the {room} {degrees} degrees warm|Heat the {room} to {degrees} degrees"], lambda rng, a: {"ok": True}, ["The {room} is set to {degrees} degrees."]),
    (["switch_light", "set_light", "light", "toggle_light"], ["Switch a light on or off."], {"room": "room", "state": ["on", "off"]},
     ["(Turn|Switch) {state} the (light|lights|lamp) in the {room}|Lights {state} in the {room}|(Turn|Switch) the {room} (light|lights) {state}"], lambda rng, a: {"ok": True}, ["The light in the {room} is {state}."]),
    (["get_order", "order_status", "track_order", "find_order"], ["Get the state of an order.", "Look up an order by its number."], {"order_id": "code"},
     ["Where is (my |)order {order_id}|(Track|Check|Show|Find) (the |my |)order {order_id}|What is the (status|state) of order {order_id}"], lambda rng, a: {"status": rng.choice(["shipped", "delivered", "packed", "cancelled"])}, ["The order {order_id} is {status}."]),
    (["convert_currency", "currency_convert", "exchange"], ["Convert an amount of money."], {"amount": "amount", "from": ["USD", "EUR", "GBP", "JPY"], "to_currency": ["CHF", "CNY", "INR", "BRL"]},
     ["(Convert|Change) {amount} {from} (to|into) {to_currency}|How much is {amount} {from} in {to_currency}|What are {amount} {from} in {to_currency}"], lambda rng, a: {"result": rng.randrange(3, 5000)}, ["{amount} {from} are {result} {to_currency}."]),
    (["add_to_cart", "cart_add", "buy_item"], ["Put an item into the shopping cart."], {"item": "item", "quantity": "quantity"},
     ["(Add|Put) {quantity} {item}s (to|into) (my|the) cart|I want to buy {quantity} {item}s|Order {quantity} {item}s"], lambda rng, a: {"total": rng.randrange(10, 900)}, ["{quantity} {item}s are in your cart. The total is {total}."]),
    (["define_word", "dictionary", "lookup_word"], ["Look up the meaning of a word."], {"word": "word"},
     ["(What does the word {word} mean|Look up the word {word}|Define the word {word})"], lambda rng, a: {"meaning": "a kind of " + rng.choice(facts.WORDS)}, ["{word} means {meaning}."]),
]
HELD_BANK = [  # never trained on: for measuring
    (["get_tide_table", "tide_times"], ["Get the times of high and low tide."], {"harbour": "city", "day": "day"},
     ["When is high tide in {harbour} on {day}|Show me the tides in {harbour} for {day}"], lambda rng, a: {"high": clock(rng)}, ["High tide is at {high}."]),
    (["air_quality", "get_air_quality"], ["Get the air quality of a city."], {"city": "city"},
     ["How is the air in {city}|What is the air quality in {city}"], lambda rng, a: {"index": rng.randrange(10, 200)}, ["The air quality index is {index}."]),
    (["rename_file", "file_rename"], ["Rename a file."], {"old_name": "word", "new_name": "word"},
     ["Rename the file {old_name} to {new_name}"], lambda rng, a: {"ok": True}, ["Done."]),
    (["book_table", "reserve_table"], ["Reserve a table in a restaurant."], {"guests": "quantity", "time": "time"},
     ["Book a table for {guests} at {time}|Reserve a table for {guests} people at {time}"], lambda rng, a: {"ok": True}, ["Your table is booked."]),
    (["open_valve", "valve_set"], ["Open a valve by some percent."], {"valve_id": "code", "percent": "percent"},
     ["Open valve {valve_id} to {percent} percent"], lambda rng, a: {"ok": True}, ["The valve is open."]),
]
VERBS = {"create": "created", "delete": "deleted", "archive": "archived", "update": "updated", "open": "opened", "close": "closed", "print": "printed",
         "send": "sent", "approve": "approved", "cancel": "cancelled", "start": "started", "stop": "stopped", "copy": "copied", "move": "moved",
         "lock": "locked", "check": "checked", "register": "registered", "share": "shared", "load": "loaded", "export": "exported", "scan": "scanned"}
OBJECTS = ("invoice ticket report account document photo job robot drone camera machine folder backup contract parcel vehicle sensor "
           "project database dashboard meeting playlist recipe door printer cluster pump").split()
SLOTS = {"id": "code", "number": "amount", "owner": "person", "email": "email", "city": "city", "day": "day", "time": "time", "reason": "text",
         "title": "title", "count": "quantity", "label": "word", "room": "room", "percent": "percent", "country": "country", "priority": ["low", "medium", "high"],
         "color": ["red", "green", "blue", "black"], "format": ["pdf", "csv", "json", "png"], "name": "person", "item": "item", "level": "percent"}


def invented(rng):
    """A tool that nobody has: a verb, an object (often a word that does not exist) and one to three parameters."""
    verb = rng.choice(list(VERBS))
    thing = rng.choice(OBJECTS) if rng.random() < 0.65 else talk.pseudo_word(rng)
    keys = rng.sample(list(SLOTS), rng.choice([1, 1, 2, 2, 3]))
    parts = [f"{key.replace('_', ' ')} {{{key}}}" for key in keys]
    joined = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    requests = [f"({verb.capitalize()}|Please {verb}|I want to {verb}|Can you {verb}|Could you {verb}) (the|a|this) {thing} with {joined}",
                f"{verb.capitalize()} {thing}: {joined}"]
    if "id" in keys and len(keys) == 1:
        requests.append(f"({verb.capitalize()}|Please {verb}|Can you {verb}) (the |){thing} {{id}}")
    names = [f"{verb}_{thing}", f"{thing}_{verb}", verb + thing.capitalize(), f"{verb}-{thing}"]
    description = rng.choice([f"{verb.capitalize()} a {thing}.", f"{verb.capitalize()}s a {thing} by its data", f"{verb.capitalize()} the {thing}"])
    return ([rng.choice(names)], [description], {key: SLOTS[key] for key in keys}, requests,
            lambda rng, a: rng.choice([{"status": "ok"}, {"ok": True}, {"status": "done", "id": rng.randrange(1, 999)}, {"result": "success"}]),
            [f"The {thing} was {VERBS[verb]}.", f"Done. The {thing} was {VERBS[verb]}."])
