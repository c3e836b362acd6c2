"""The words of the demonstration language. A concept is a tuple of synonyms; its first word names it."""

WOMEN = ("Anna", "Clara", "Emma", "Ida", "Julia", "Laura", "Maria", "Nora", "Olga", "Rosa", "Sara", "Vera")
MEN = ("Adam", "Bruno", "Carl", "David", "Erik", "Felix", "Hugo", "Ivan", "Jonas", "Leo", "Oscar", "Paul")
PEOPLE = WOMEN + MEN

PLACES = ("Paris", "Rome", "Oslo", "Berlin", "Madrid", "Cairo", "Tokyo", "London", "Vienna", "Dublin")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# What can be bought, sold or lost: category -> its things.
THINGS = {
    "animal": (("dog", "hound"), ("horse",), ("sheep",), ("goat",), ("parrot",)),
    "vehicle": (("car", "automobile"), ("bicycle", "bike"), ("boat", "ship"), ("truck", "lorry")),
    "instrument": (("violin", "fiddle"), ("piano",), ("drum",), ("flute",)),
    "garment": (("coat", "jacket"), ("shirt",), ("hat", "cap"), ("scarf",), ("dress", "gown")),
    "furniture": (("sofa", "couch"), ("table", "desk"), ("lamp",), ("bed",)),
}
CATEGORY = {thing: category for category, things in THINGS.items() for thing in things}
ALL_THINGS = tuple(CATEGORY)

# Properties of things; the paired lists are what a contradiction may use.
PROPERTIES = (
    ("big", "large"),
    ("small", "little"),
    ("old", "ancient"),
    ("new", "modern"),
    ("cheap", "inexpensive"),
    ("costly", "expensive"),
    ("red",),
    ("blue",),
    ("green",),
    ("black",),
    ("white",),
)

# Each concept: synonymous verbs as (base, past, participle).
DEEDS = (
    (("buy", "bought", "bought"), ("purchase", "purchased", "purchased")),
    (("find", "found", "found"), ("discover", "discovered", "discovered")),
    (("repair", "repaired", "repaired"), ("fix", "fixed", "fixed")),
    (("clean", "cleaned", "cleaned"), ("wash", "washed", "washed")),
    (("lose", "lost", "lost"), ("misplace", "misplaced", "misplaced")),
    (("hide", "hid", "hidden"), ("conceal", "concealed", "concealed")),
    (("choose", "chose", "chosen"), ("select", "selected", "selected")),
    (("draw", "drew", "drawn"), ("sketch", "sketched", "sketched")),
)

# Sentiment.
ASPECTS = (
    "film",
    "story",
    "acting",
    "music",
    "ending",
    "cast",
    "script",
    "plot",
    "hero",
    "camera",
    "pace",
    "humor",
)
PRAISE = (
    "good", "great", "wonderful", "charming", "brilliant", "funny", "clever",
    "moving", "fresh", "superb", "lovely", "touching",
)  # fmt: skip
BLAME = (
    "bad", "awful", "dull", "boring", "terrible", "stupid", "weak",
    "ugly", "stale", "poor", "tedious", "clumsy",
)  # fmt: skip
DEGREES = ("very", "really", "quite", "truly", "so")
REVIEWERS = ("the critics", "most viewers", "many people", "my friends", "the audience")

# Grammar: (singular, plural) and (base, third person).
WORKERS = (
    ("teacher", "teachers"), ("doctor", "doctors"), ("farmer", "farmers"), ("singer", "singers"),
    ("painter", "painters"), ("driver", "drivers"), ("baker", "bakers"), ("soldier", "soldiers"),
    ("student", "students"), ("child", "children"), ("woman", "women"), ("man", "men"),
)  # fmt: skip
DOINGS = (
    ("sleep", "sleeps"), ("run", "runs"), ("laugh", "laughs"), ("dance", "dances"), ("swim", "swims"),
    ("sing", "sings"), ("wait", "waits"), ("work", "works"), ("cook", "cooks"), ("smile", "smiles"),
)  # fmt: skip
SITES = (
    ("house", "houses"),
    ("tree", "trees"),
    ("river", "rivers"),
    ("tower", "towers"),
    ("garden", "gardens"),
)
NEARNESS = ("near", "behind", "beside", "opposite")
MANNERS = ("often", "always", "rarely", "sometimes")

# Senses: topic -> words that show it, and words with two senses -> their topics.
TOPICS = {
    "nature": ("lake", "forest", "meadow", "hill", "stream", "valley", "island", "beach", "pond", "swamp"),
    "money": ("loan", "cheque", "salary", "coin", "debt", "tax", "wallet", "price", "budget", "fee"),
    "sport": ("goal", "referee", "team", "stadium", "player", "coach", "race", "medal", "ball", "trophy"),
    "music": ("concert", "melody", "choir", "guitar", "song", "opera", "tune", "rhythm", "chorus", "organ"),
    "machine": ("engine", "wheel", "motor", "gear", "factory", "bolt", "brake", "lever", "pump", "robot"),
}
AMBIGUOUS = {
    "bank": ("nature", "money"), "bat": ("nature", "sport"), "spring": ("nature", "machine"),
    "pitch": ("sport", "music"), "note": ("music", "money"), "crane": ("nature", "machine"),
    "club": ("sport", "music"), "record": ("sport", "music"), "key": ("music", "machine"),
    "bill": ("nature", "money"), "match": ("sport", "money"), "pipe": ("music", "machine"),
}  # fmt: skip
SEEN = ("saw", "noticed", "mentioned", "described", "remembered")

# Reasons: verb -> (what makes its subject the cause, what makes its object the cause).
REASONS = {
    "helped": (("kind", "patient", "generous"), ("tired", "sick", "lost")),
    "thanked": (("polite", "grateful", "happy"), ("kind", "helpful", "generous")),
    "envied": (("jealous", "unlucky", "sad"), ("rich", "famous", "lucky")),
    "feared": (("timid", "nervous", "tired"), ("cruel", "angry", "strict")),
    "scolded": (("angry", "strict", "nervous"), ("late", "lazy", "rude")),
    "paid": (("rich", "honest", "lucky"), ("busy", "skilled", "helpful")),
    "called": (("lonely", "bored", "lost"), ("famous", "skilled", "late")),
    "left": (("rude", "busy", "bored"), ("cruel", "lazy", "jealous")),
}

# Frames round a statement, by what they make of it.
FACTIVE = ("knows that", "remembers that", "saw that", "proved that")
OPEN = ("hopes that", "thinks that", "heard that", "dreams that")
FALSE = ("is wrong that", "lied that", "falsely claims that", "pretends that")
