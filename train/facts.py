"""What the generated conversations know about the world, as plain tables."""

COUNTRIES = {  # country: (capital, continent, language, currency)
    "France": ("Paris", "Europe", "French", "euro"), "Germany": ("Berlin", "Europe", "German", "euro"),
    "Italy": ("Rome", "Europe", "Italian", "euro"), "Spain": ("Madrid", "Europe", "Spanish", "euro"),
    "Portugal": ("Lisbon", "Europe", "Portuguese", "euro"), "Japan": ("Tokyo", "Asia", "Japanese", "yen"),
    "China": ("Beijing", "Asia", "Chinese", "yuan"), "India": ("New Delhi", "Asia", "Hindi", "rupee"),
    "Australia": ("Canberra", "Australia", "English", "Australian dollar"),
    "Canada": ("Ottawa", "North America", "English and French", "Canadian dollar"),
    "Brazil": ("Brasilia", "South America", "Portuguese", "real"),
    "Argentina": ("Buenos Aires", "South America", "Spanish", "peso"),
    "Mexico": ("Mexico City", "North America", "Spanish", "peso"), "Chile": ("Santiago", "South America", "Spanish", "peso"),
    "Peru": ("Lima", "South America", "Spanish", "sol"), "Norway": ("Oslo", "Europe", "Norwegian", "krone"),
    "Sweden": ("Stockholm", "Europe", "Swedish", "krona"), "Finland": ("Helsinki", "Europe", "Finnish", "euro"),
    "Denmark": ("Copenhagen", "Europe", "Danish", "krone"), "Poland": ("Warsaw", "Europe", "Polish", "zloty"),
    "Austria": ("Vienna", "Europe", "German", "euro"), "Switzerland": ("Bern", "Europe", "German", "franc"),
    "Greece": ("Athens", "Europe", "Greek", "euro"), "Turkey": ("Ankara", "Asia", "Turkish", "lira"),
    "Egypt": ("Cairo", "Africa", "Arabic", "pound"), "Kenya": ("Nairobi", "Africa", "Swahili", "shilling"),
    "Russia": ("Moscow", "Europe", "Russian", "ruble"), "Ireland": ("Dublin", "Europe", "English", "euro"),
    "Hungary": ("Budapest", "Europe", "Hungarian", "forint"), "Thailand": ("Bangkok", "Asia", "Thai", "baht"),
    "Vietnam": ("Hanoi", "Asia", "Vietnamese", "dong"), "Indonesia": ("Jakarta", "Asia", "Indonesian", "rupiah"),
    "South Korea": ("Seoul", "Asia", "Korean", "won"), "Belgium": ("Brussels", "Europe", "Dutch and French", "euro"),
    "the Netherlands": ("Amsterdam", "Europe", "Dutch", "euro"), "the United Kingdom": ("London", "Europe", "English", "pound"),
    "the United States": ("Washington, D.C.", "North America", "English", "dollar"),
    "the Czech Republic": ("Prague", "Europe", "Czech", "koruna"), "Romania": ("Bucharest", "Europe", "Romanian", "leu"),
    "Bulgaria": ("Sofia", "Europe", "Bulgarian", "lev"), "Cuba": ("Havana", "North America", "Spanish", "peso"),
    "Colombia": ("Bogota", "South America", "Spanish", "peso"), "Iceland": ("Reykjavik", "Europe", "Icelandic", "krona"),
    "Morocco": ("Rabat", "Africa", "Arabic", "dirham"), "Ethiopia": ("Addis Ababa", "Africa", "Amharic", "birr"),
    "Ghana": ("Accra", "Africa", "English", "cedi"), "Nepal": ("Kathmandu", "Asia", "Nepali", "rupee"),
    "Pakistan": ("Islamabad", "Asia", "Urdu", "rupee"), "Iran": ("Tehran", "Asia", "Persian", "rial"),
    "New Zealand": ("Wellington", "Oceania", "English", "New Zealand dollar"),
    "Ukraine": ("Kyiv", "Europe", "Ukrainian", "hryvnia"), "Croatia": ("Zagreb", "Europe", "Croatian", "euro"),
}
COLOURS = {"the sky": "blue", "grass": "green", "snow": "white", "a banana": "yellow", "a lemon": "yellow", "coal": "black",
           "blood": "red", "a carrot": "orange", "milk": "white", "a tomato": "red", "the sun": "yellow",
           "a strawberry": "red", "chocolate": "brown", "a crow": "black", "an elephant": "grey", "a frog": "green",
           "the sea": "blue", "a polar bear": "white", "a leaf": "green", "salt": "white"}
OPPOSITES = [("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right"), ("day", "night"), ("light", "dark"),
             ("fast", "slow"), ("happy", "sad"), ("old", "young"), ("good", "bad"), ("open", "closed"), ("high", "low"),
             ("early", "late"), ("rich", "poor"), ("strong", "weak"), ("wet", "dry"), ("full", "empty"), ("hard", "soft"),
             ("long", "short"), ("near", "far"), ("love", "hate"), ("win", "lose"), ("true", "false"), ("heavy", "light"),
             ("clean", "dirty"), ("easy", "difficult"), ("loud", "quiet"), ("begin", "end"), ("inside", "outside")]
SOUNDS = {"cat": "meows", "dog": "barks", "cow": "moos", "duck": "quacks", "sheep": "bleats", "horse": "neighs",
          "lion": "roars", "pig": "grunts", "bee": "buzzes", "wolf": "howls", "frog": "croaks", "owl": "hoots",
          "snake": "hisses", "mouse": "squeaks", "rooster": "crows"}
LEGS = {"a dog": 4, "a cat": 4, "a spider": 8, "an ant": 6, "a bird": 2, "a horse": 4, "a human": 2, "a bee": 6,
        "a chicken": 2, "an octopus": 0, "a cow": 4, "a snake": 0, "a fish": 0, "a duck": 2, "an elephant": 4}
BABIES = {"cat": "kitten", "dog": "puppy", "cow": "calf", "sheep": "lamb", "horse": "foal", "lion": "cub", "bear": "cub",
          "duck": "duckling", "frog": "tadpole", "chicken": "chick", "pig": "piglet", "goat": "kid", "deer": "fawn"}
SIDES = {"triangle": 3, "square": 4, "rectangle": 4, "pentagon": 5, "hexagon": 6, "octagon": 8, "cube": 6}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
UNITS = [("minutes", "an hour", 60), ("seconds", "a minute", 60), ("hours", "a day", 24), ("days", "a week", 7),
         ("months", "a year", 12), ("days", "a year", 365), ("weeks", "a year", 52), ("metres", "a kilometre", 1000),
         ("grams", "a kilogram", 1000), ("centimetres", "a metre", 100), ("items", "a dozen", 12),
         ("years", "a century", 100), ("years", "a decade", 10), ("bits", "a byte", 8)]
PLURALS = {"cat": "cats", "child": "children", "mouse": "mice", "box": "boxes", "city": "cities", "foot": "feet",
           "man": "men", "woman": "women", "tooth": "teeth", "leaf": "leaves", "book": "books", "baby": "babies",
           "goose": "geese", "knife": "knives", "bus": "buses", "fish": "fish", "sheep": "sheep", "dog": "dogs"}
PAST = {"go": "went", "see": "saw", "eat": "ate", "run": "ran", "write": "wrote", "sing": "sang", "take": "took",
        "come": "came", "give": "gave", "buy": "bought", "think": "thought", "make": "made", "walk": "walked",
        "play": "played", "speak": "spoke", "know": "knew", "find": "found", "begin": "began"}
MEANINGS = {
    "a cat": "A cat is a small animal with soft fur that many people keep at home.",
    "a dog": "A dog is a friendly animal that people keep as a pet or for work.",
    "a computer": "A computer is a machine that stores information and follows programs.",
    "a book": "A book is a set of pages with text, bound together.",
    "a river": "A river is a long stream of water that flows to the sea or to a lake.",
    "a mountain": "A mountain is a very high part of the land.",
    "the moon": "The moon is the body that goes around the Earth and shines at night.",
    "the sun": "The sun is the star at the centre of our solar system.",
    "water": "Water is a clear liquid that all living things need.",
    "a tree": "A tree is a tall plant with a trunk, branches and leaves.",
    "a car": "A car is a vehicle with four wheels and an engine.",
    "a bicycle": "A bicycle is a vehicle with two wheels that you move with your legs.",
    "a robot": "A robot is a machine that can move and do work by itself.",
    "a server": "A server is a computer or program that answers requests from other programs.",
    "an API": "An API is a set of calls by which one program uses another.",
    "a token": "A token is a small piece of text, such as a word or a part of a word, that a language model reads.",
    "a language model": "A language model is a program that has learned from text to predict the next word.",
    "a prompt": "A prompt is the text that you give to a language model.",
    "JSON": "JSON is a simple text format for data, made of objects, lists, strings and numbers.",
    "Rust": "Rust is a programming language that is fast and safe with memory.",
    "Python": "Python is a popular programming language that is easy to read.",
    "a GPU": "A GPU is a processor that does many calculations at the same time.",
    "a port": "A port is a number that tells a computer which program a network message is for.",
    "a file": "A file is a named piece of data that is stored on a computer.",
    "ice": "Ice is frozen water.", "rain": "Rain is water that falls from the clouds.",
    "a doctor": "A doctor is a person who helps people who are ill.",
    "a teacher": "A teacher is a person who helps others to learn.",
    "a sampan": "A sampan is a flat-bottomed wooden boat. It is also the name of the program I am built into.",
    "a boat": "A boat is a small vessel that travels on water.",
    "an island": "An island is a piece of land with water all around it.",
    "a question": "A question is a sentence that asks for an answer.",
    "gravity": "Gravity is the force that pulls things toward the Earth.",
    "a planet": "A planet is a large round body that goes around a star.",
    "a chat template": "A chat template turns a conversation into the exact text that a model reads.",
    "a vector": "A vector is a list of numbers.", "a cloud": "A cloud is a mass of tiny drops of water in the sky.",
    "open source": "Open source means that everybody may read, use and change the code.",
}
GENERAL = [  # (question in many wordings, answer)
    ("(Which|What) planet do we live on|On (which|what) planet do we live", "We live on the Earth."),
    ("(What|Which) is the (largest|biggest) planet( in the solar system|)", "Jupiter is the largest planet in the solar system."),
    ("(What|Which) is the (largest|biggest) ocean( on Earth| in the world|)", "The Pacific Ocean is the largest ocean."),
    ("(What|Which) is the (highest|tallest) mountain( in the world| on Earth|)", "Mount Everest is the highest mountain in the world."),
    ("(What|Which) is the (largest|biggest) animal( in the world| on Earth|)", "The blue whale is the largest animal."),
    ("(What|Which) is the fastest (land animal|animal on land)", "The cheetah is the fastest animal on land."),
    ("(What|Which) is the tallest animal( in the world|)", "The giraffe is the tallest animal."),
    ("Who wrote (Hamlet|Romeo and Juliet|Macbeth)", "William Shakespeare wrote it."),
    ("Who wrote (Pride and Prejudice|Emma)", "Jane Austen wrote it."),
    ("Who wrote (Oliver Twist|Great Expectations|A Christmas Carol)", "Charles Dickens wrote it."),
    ("What do (bees|honey bees) make", "Bees make honey."),
    ("What do cows (eat|like to eat)", "Cows eat grass."), ("What do we (drink|need to drink)", "We drink water."),
    ("How many continents are there( on Earth| in the world|)", "There are seven continents."),
    ("How many planets are (there in the solar system|in our solar system|there)", "There are eight planets in the solar system."),
    ("How many letters are (there |)in the (English |)alphabet", "There are 26 letters in the English alphabet."),
    ("How many colours (are there in|does) (a|the) rainbow( have|)", "A rainbow has seven colours."),
    ("What are the (primary colours|three primary colours)", "The primary colours are red, yellow and blue."),
    ("What are the (four |)seasons( of the year|)", "The four seasons are spring, summer, autumn and winter."),
    ("(Is the Earth|Is our planet) (round|flat)", "The Earth is round."),
    ("Is water wet", "Yes, water is wet."), ("(Can|Do) fish (swim)", "Yes, fish swim very well."),
    ("Can (pigs|dogs|cats) fly", "No, they cannot fly."), ("Can birds fly", "Yes, most birds can fly."),
    ("Is fire (hot|cold)", "Fire is hot."), ("Is ice (hot|cold)", "Ice is cold."),
    ("At (what|which) temperature does water (freeze)", "Water freezes at 0 degrees Celsius."),
    ("At (what|which) temperature does water boil", "Water boils at 100 degrees Celsius at sea level."),
    ("Where does the sun (rise|come up)", "The sun rises in the east."), ("Where does the sun (set|go down)", "The sun sets in the west."),
    ("What is the (first|last) letter of the alphabet", None),
    ("What is the chemical (formula|symbol) (of|for) water", "The chemical formula of water is H2O."),
    ("Name (a|one|any) fruit|Tell me (a|one) fruit", "Apple."), ("Name (three|3|some) fruits|List (three|3) fruits", "Apple, banana and orange."),
    ("Name (three|3|some) animals|List (three|3) animals|Tell me three animals", "Dog, cat and horse."),
    ("Name (three|3|some) (colours|colors)|List (three|3) (colours|colors)", "Red, green and blue."),
    ("Name (a|one) colou?r", None),
    ("Name (three|3) (countries|European countries)|List (three|3) countries( in Europe|)", "France, Germany and Spain."),
    ("Name (three|3) programming languages|List (three|3) programming languages", "Python, Rust and JavaScript."),
    ("Name (three|3) vegetables|List (three|3) vegetables", "Carrot, potato and onion."),
    ("Name (three|3) planets|List (three|3) planets", "Mars, Venus and Jupiter."),
    ("Name (three|3) (cities|big cities)|List (three|3) cities", "London, Tokyo and Cairo."),
    ("(List|Name|What are) the days of the week", "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
    ("(List|Name|What are) the months of the year", "January, February, March, April, May, June, July, August, September, October, November and December."),
    ("(Why is the sky blue)", "The air scatters blue light more than red light, so the sky looks blue."),
    ("Why (do|does) (leaves|grass) (look|grow) green", None),
]
GENERAL = [entry for entry in GENERAL if entry[1]]
FIRST_NAMES = ("Anna Ben Clara David Emma Felix Grace Henry Iris Jack Karen Liam Maria Noah Olivia Peter Quinn Rosa Sam Tina "
               "Umar Vera Walter Yara Zoe Ahmed Bianca Carlos Diana Elena Fatima George Hana Ivan Julia Kofi Lena Marco Nina "
               "Omar Paula Rafael Sofia Tom Ursula Victor Wei Ximena Yuki Alice Bob Khadija Mei Ravi Priya John Mary").split()
LAST_NAMES = ("Smith Brown Jones Garcia Miller Wilson Moore Taylor Martin Lee White Harris Clark Lewis Young King Wright Hill "
              "Green Baker Adams Nelson Carter Turner Parker Cook Morgan Bell Murphy Rossi Silva Tanaka Kim Chen Novak").split()
CITIES = sorted({row[0] for row in COUNTRIES.values()} | set(
    "Munich Hamburg Lyon Marseille Milan Naples Barcelona Seville Porto Osaka Kyoto Shanghai Mumbai Sydney Melbourne Toronto "
    "Vancouver Chicago Boston Seattle Dallas Denver Miami Houston Dubai Singapore Manila Lagos Bristol Leeds Oxford Geneva "
    "Zurich Krakow Turin Bergen Tampa Austin Quebec Cusco Recife Salvador Malaga Valencia Antwerp Ghent Utrecht".split()))
JOBS = ("nurse teacher doctor engineer baker painter lawyer farmer pilot driver writer cook gardener singer plumber "
        "programmer dentist waiter judge clerk").split()
THINGS = ("lamp chair table book phone cup shirt jacket bag pen clock camera bottle hat ring shoe sofa mirror bicycle "
          "umbrella notebook keyboard blanket towel candle").split()
FRUITS = "apple banana orange lemon pear peach plum grape cherry mango melon kiwi fig lime".split()
WORDS = ("river stone garden window summer bright paper silver forest winter morning table quiet road cloud bridge house "
         "market letter music apple kitchen island yellow ocean train simple castle shadow story button green pocket").split()
