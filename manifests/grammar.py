"""What synthetic speakers say: strings of digits, spoken commands, or sentences of more than 300 different words.

No sentence is on two sides of a split: a checksum of its words says to which one it belongs, whatever a corpus's size
and seed. Eight tenths of all sentences may be trained on, a tenth each is for validation and for test.
"""

import random
import re
import zlib
from typing import Callable, Dict, Tuple

DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
COMMAND_SLOTS = {
    "room": "KITCHEN|BEDROOM|GARDEN|OFFICE|HALL|LIVING ROOM",
    "thing": "LIGHT|LAMP|RADIO|HEATER|FAN|CAMERA",
    "person": "ANNA|PETER|MY MOTHER|THE DOCTOR|DAVID",
    "day": "TODAY|TOMORROW|ON MONDAY|ON FRIDAY|ON SUNDAY",
    "music": "JAZZ|SOME MUSIC|THE NEWS|MY FAVOURITE SONG",
    "state": "ON|OFF",
    "number": "TWO|THREE|FOUR|FIVE|TEN|TWELVE|FIFTEEN|TWENTY|THIRTY|FORTY|FIFTY",
}
COMMANDS = (
    "TURN {state} THE {thing} IN THE {room}",
    "SWITCH THE {room} {thing} {state}",
    "SET A TIMER FOR {number} MINUTES",
    "WAKE ME IN {number} MINUTES",
    "CALL {person} {day}",
    "REMIND ME TO CALL {person} {day}",
    "PLAY {music} IN THE {room}",
    "WHAT IS THE WEATHER {day}",
    "SET THE {thing} TO {number} PER CENT",
)
SENTENCE_SLOTS = {
    "who": "THE CHILDREN|MY BROTHER|HER SISTER|THE TEACHER|A FARMER|THE OLD MAN|OUR NEIGHBOUR|THE CAPTAIN|THAT WOMAN|"
    "THE BAKER|A YOUNG GIRL|THE DOCTOR|HIS UNCLE|THE DRIVER|MY FRIEND|THE SOLDIER|A STRANGER|THE PAINTER|THE QUEEN|"
    "THE WAITER|EVERY STUDENT|NOBODY|THE LAWYER|A SAILOR|THE WHOLE FAMILY",
    "did": "BOUGHT|FOUND|LOST|CARRIED|PAINTED|SOLD|WATCHED|CLEANED|FORGOT|BROKE|MENDED|BROUGHT|STOLE|DREW|HID|OPENED|"
    "SHOWED US|LOOKED AFTER|WAITED FOR|ASKED ABOUT|THREW AWAY|CHOSE|DROPPED|KEPT|WANTED",
    "which": "RED|SMALL|HEAVY|BROKEN|BEAUTIFUL|EMPTY|GREEN|STRANGE|CHEAP|WOODEN|ROUND|DIRTY|EXPENSIVE|YELLOW|NARROW|"
    "BRIGHT|FAMOUS|SILVER|THICK|SQUARE|USEFUL|BLUE|ENORMOUS|FRESH|DARK",
    "thing": "BASKET|BICYCLE|BOTTLE|CARPET|CLOCK|COAT|CUP|DESK|FLAG|GUITAR|HAMMER|HORSE|JACKET|KNIFE|LADDER|LETTER|MAP|"
    "MIRROR|NEWSPAPER|PICTURE|PLATE|RING|ROPE|SHIRT|SPOON|STONE|TABLE|TICKET|UMBRELLA|VIOLIN|WHEEL|WINDOW|BOAT|"
    "BLANKET|CAMERA|DRUM|ENGINE|FEATHER|GLASS|HAT",
    "place": "IN THE GARDEN|NEAR THE RIVER|BEHIND THE CHURCH|AT THE STATION|ON THE BRIDGE|UNDER THE TREE|BY THE SEA|"
    "IN THE VILLAGE|AT SCHOOL|OUTSIDE THE HOSPITAL|ABOVE THE SHOP|ACROSS THE STREET|IN THE FOREST|AT THE MARKET|"
    "ON THE ISLAND|INSIDE THE CASTLE|BEYOND THE HILLS|AROUND THE CORNER|IN THE LIBRARY|BETWEEN TWO HOUSES",
    "when": "YESTERDAY|LAST SUMMER|THIS MORNING|IN JANUARY|BEFORE BREAKFAST|AFTER DINNER|ON TUESDAY|AT MIDNIGHT|"
    "DURING THE WAR|A WEEK AGO|TWICE A YEAR|EARLY IN AUTUMN|LATE AT NIGHT|ON THURSDAY AFTERNOON|SINCE APRIL|"
    "ALMOST EVERY DAY|JUST NOW|ONE EVENING|IN OCTOBER|FOR THE FIRST TIME",
    "number": "TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE|TEN|ELEVEN|TWELVE|FIFTEEN|TWENTY|THIRTY|FORTY|FIFTY|SIXTY|"
    "A HUNDRED|A THOUSAND",
    "many": "APPLES|BIRDS|BOOKS|BOXES|COINS|DOGS|EGGS|FISHES|FLOWERS|KEYS|MILES|ORANGES|PEOPLE|POUNDS|SHEEP|SHIPS|"
    "SHOES|SONGS|STARS|TREES|WORDS|LAMPS|CHAIRS|CATS|QUESTIONS",
    "how": "SLOWLY|QUICKLY|QUIETLY|WITHOUT A WORD|VERY CAREFULLY|WITH BOTH HANDS|ALL ALONE|TOGETHER|WITH A SMILE|"
    "AS USUAL|AGAINST THE WIND|IN A HURRY|WITH GREAT PLEASURE|BADLY|LIKE A FOOL",
    "went": "WALKED|TRAVELLED|RAN|SAILED|CLIMBED|SLEPT|WORKED|DANCED|WHISPERED|LAUGHED|CRIED|SAT DOWN|FELL|JUMPED|"
    "STOPPED|SMOKED|SANG|TALKED|PLAYED CHESS|GOT LOST",
    "why": "BECAUSE IT RAINED|ALTHOUGH THE SUN SHONE|TO EARN SOME MONEY|WHILE WE WERE AWAY|UNTIL THE DOOR CLOSED|"
    "WHEN THE TELEPHONE RANG|AS SOON AS THE TRAIN ARRIVED|IF YOU BELIEVE THE STORY|AND NEVER CAME BACK|"
    "BUT DID NOT ENJOY IT|SO THAT EVERYONE COULD HEAR|INSTEAD OF GOING HOME",
}
SENTENCES = (
    "{who} {did} THE {which} {thing} {place}",
    "{who} {did} A VERY {which} {thing} {when}",
    "{when} {who} {went} {place}",
    "{who} {went} {how} {why}",
    "THERE ARE {number} {many} {place}",
    "{who} {did} {number} {which} {many} {when}",
    "WHERE IS THE {which} {thing} WHICH {who} {did}",
    "HAS {who} SEEN MY {thing} {place}",
    "THE {which} {thing} COSTS {number} POUNDS",
    "PLEASE PUT THE {thing} AND THE {which} {thing2} {place}",
    "{who} COUNTED {number} {many} AND {number2} {which} {many2}",
    "WE {went} {place} {when} {why}",
)


def _filled(patterns: Tuple[str, ...], slots: Dict[str, str]) -> Callable[[random.Random], str]:
    """A function that fills one of the patterns; `{thing2}` is a second word of the slot `thing`."""
    words = {slot: options.split("|") for slot, options in slots.items()}

    def sentence(rng: random.Random) -> str:
        pattern = rng.choice(patterns)
        return re.sub(r"\{([a-z]+)\d?\}", lambda slot: rng.choice(words[slot.group(1)]), pattern)

    return sentence


def _digits(rng: random.Random) -> str:
    return " ".join(rng.choice(DIGITS) for _ in range(rng.randint(3, 6)))


GRAMMARS: Dict[str, Callable[[random.Random], str]] = {
    "digits": _digits,  # three to six
    "commands": _filled(COMMANDS, COMMAND_SLOTS),
    "sentences": _filled(SENTENCES, SENTENCE_SLOTS),
}


def side_of(words: str) -> str:
    """The side of the split on which these words may be said: train, valid or test."""
    return {0: "valid", 1: "test"}.get(zlib.crc32(words.encode()) % 10, "train")


def sentence(grammar: str, side: str, rng: random.Random) -> str:
    """Upper-case words of that side of the split; the next of `rng`'s that belongs there."""
    while True:
        words = GRAMMARS[grammar](rng)
        if side_of(words) == side:
            return words
