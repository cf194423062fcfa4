"""What stands in the rooms of `household`, and where things are likely to be: tables only.

Receptacles, things and which may hold which follow ALFRED (arXiv 1912.01734), whose scenes ALFWorld uses. How likely a
place is, is ours: the weights are what there is to learn about searching. A weight of 0: may be put there, never starts
there.
"""

from __future__ import annotations

OPENABLE = {"cabinet", "drawer", "fridge", "microwave", "safe"}

_WEIGHTS = {
    # food
    "apple": "fridge 7 countertop 4 diningtable 3 sinkbasin 1 garbagecan 1 microwave 0 sidetable 0",
    "bread": "countertop 7 diningtable 4 fridge 1 garbagecan 1 microwave 0",
    "egg": "fridge 8 sinkbasin 2 countertop 2 garbagecan 1 microwave 1 diningtable 0",
    "lettuce": "fridge 8 countertop 2 diningtable 2 sinkbasin 1 garbagecan 0",
    "potato": "sinkbasin 6 countertop 5 fridge 1 garbagecan 1 microwave 1 diningtable 1",
    "tomato": "countertop 6 fridge 4 sinkbasin 2 diningtable 2 garbagecan 0 microwave 0",
    "winebottle": "fridge 5 countertop 4 cabinet 1 diningtable 1 shelf 1 garbagecan 1 desk 0 dresser 0",
    # kitchen things
    "bowl": "cabinet 5 diningtable 4 shelf 3 countertop 2 fridge 1 sinkbasin 1 microwave 0 desk 1 dresser 1",
    "cup": "cabinet 5 sinkbasin 4 shelf 2 countertop 2 microwave 1 fridge 1 diningtable 1 desk 0 dresser 0",
    "mug": "coffeemachine 8 desk 6 cabinet 2 sinkbasin 1 countertop 1 shelf 1 microwave 1 sidetable 1 fridge 0",
    "plate": "diningtable 6 cabinet 4 countertop 2 sinkbasin 2 shelf 2 fridge 0 microwave 0 desk 0 dresser 0",
    "pan": "stoveburner 9 countertop 2 cabinet 1 sinkbasin 1 diningtable 0 fridge 0",
    "pot": "stoveburner 9 sinkbasin 2 cabinet 1 countertop 1 shelf 0 diningtable 0 fridge 0",
    "kettle": "stoveburner 8 countertop 3 cabinet 1 sinkbasin 0 shelf 0 diningtable 0",
    "butterknife": "drawer 4 countertop 4 diningtable 3 sinkbasin 1",
    "fork": "drawer 5 diningtable 4 sinkbasin 2 countertop 1",
    "knife": "countertop 6 drawer 2 diningtable 2 sinkbasin 2",
    "ladle": "countertop 5 drawer 3 sinkbasin 1 cabinet 1 diningtable 1",
    "spatula": "countertop 5 drawer 4 sinkbasin 2 diningtable 1",
    "spoon": "drawer 5 diningtable 4 sinkbasin 2 countertop 1",
    "dishsponge": "sinkbasin 7 countertop 2 drawer 1 cabinet 1 garbagecan 1 bathtubbasin 1 toilet 0 shelf 0",
    "peppershaker": "countertop 5 shelf 3 cabinet 2 diningtable 2 drawer 1",
    "saltshaker": "countertop 5 shelf 3 cabinet 2 diningtable 2 drawer 1",
    # bathroom things
    "cloth": "bathtubbasin 6 countertop 3 sinkbasin 2 cabinet 2 drawer 1 laundryhamper 3 toilet 1 garbagecan 1 shelf 1",
    "handtowel": "handtowelholder 9 countertop 1 sinkbasin 0 bathtubbasin 0 cabinet 0 drawer 0 toilet 0 garbagecan 0",
    "soapbar": "sinkbasin 6 bathtubbasin 4 toilet 2 countertop 2 garbagecan 1 cabinet 1 drawer 1 shelf 0",
    "soapbottle": "countertop 6 toilet 3 cabinet 2 garbagecan 1 shelf 1 drawer 1",
    "spraybottle": "cabinet 4 toilet 4 countertop 3 garbagecan 1 drawer 1 shelf 1",
    "tissuebox": "toilet 3 countertop 3 coffeetable 3 sidetable 3 shelf 1 dresser 2 drawer 1 cabinet 1 garbagecan 0",
    "toiletpaper": "toiletpaperhanger 5 toilet 5 cabinet 2 drawer 1 countertop 1 garbagecan 1 shelf 0",
    "towel": "towelholder 1",
    "candle": "toilet 5 countertop 4 coffeetable 2 shelf 2 cabinet 1 drawer 1 sidetable 1 dresser 1 desk 0",
    # things of bedroom and living room
    "alarmclock": "sidetable 5 desk 5 dresser 3 shelf 2 coffeetable 0",
    "baseballbat": "bed 5 sidetable 1",
    "basketball": "bed 4 dresser 2 armchair 2 desk 1 sofa 0",
    "book": "bed 5 desk 4 sofa 3 coffeetable 3 shelf 2 sidetable 1 drawer 1 dresser 1 armchair 1",
    "cd": "desk 5 shelf 3 drawer 2 garbagecan 2 safe 1 dresser 1 sidetable 0",
    "cellphone": "sidetable 4 bed 4 desk 2 drawer 2 sofa 2 dresser 2 coffeetable 1 shelf 1 armchair 1 safe 0",
    "creditcard": "coffeetable 4 desk 4 sidetable 2 sofa 2 armchair 2 dresser 2 shelf 1 drawer 1 safe 0",
    "keychain": "sidetable 4 safe 3 dresser 3 coffeetable 2 drawer 2 sofa 1 armchair 1 shelf 1 desk 1",
    "laptop": "desk 6 bed 5 sofa 3 coffeetable 3 armchair 2 dresser 1 sidetable 0",
    "newspaper": "coffeetable 5 sofa 5 garbagecan 2 armchair 2 sidetable 1 drawer 1 shelf 0 bed 0 dresser 0",
    "pen": "desk 6 drawer 3 shelf 2 sidetable 2 garbagecan 1 dresser 1",
    "pencil": "desk 6 drawer 3 shelf 2 sidetable 2 garbagecan 1 dresser 1",
    "pillow": "bed 8 sofa 6 armchair 4",
    "remotecontrol": "sofa 5 coffeetable 4 armchair 2 sidetable 2 drawer 1 dresser 1 shelf 0",
    "statue": "shelf 5 coffeetable 3 dresser 3 sidetable 2 safe 1 desk 0",
    "tennisracket": "bed 4 dresser 2 desk 1 sidetable 1",
    "vase": "shelf 5 coffeetable 3 sidetable 2 dresser 2 cabinet 1 safe 1 desk 0",
    "watch": "coffeetable 4 sidetable 4 shelf 2 drawer 2 dresser 1 safe 1 desk 1",
    "wateringcan": "shelf 3 coffeetable 2 sidetable 2 dresser 1 drawer 1 desk 0",
    "desklamp": "desk 7 sidetable 5 dresser 1",
}
#: Thing -> receptacle that may hold it -> how likely it is to start there.
PLACES = {
    thing: {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}
    for thing, words in ((thing, text.split()) for thing, text in _WEIGHTS.items())
}

#: Level -> room -> receptacle -> fewest and most of it.
ROOMS: dict[str, dict[str, dict[str, tuple[int, int]]]] = {
    "easy": {
        "kitchen": {"cabinet": (1, 1), "countertop": (1, 1), "diningtable": (0, 1), "drawer": (0, 1), "fridge": (1, 1),
                    "microwave": (1, 1), "sinkbasin": (1, 1)},
        "bedroom": {"bed": (1, 1), "desk": (1, 1), "drawer": (1, 1), "dresser": (0, 1), "shelf": (1, 1),
                    "sidetable": (1, 1), "safe": (0, 1)},
    },
    "full": {
        "kitchen": {"cabinet": (4, 8), "coffeemachine": (1, 1), "countertop": (1, 3), "diningtable": (0, 2),
                    "drawer": (2, 5), "fridge": (1, 1), "garbagecan": (1, 1), "microwave": (1, 1), "shelf": (0, 3),
                    "sinkbasin": (1, 1), "stoveburner": (2, 4), "toaster": (1, 1)},
        "livingroom": {"armchair": (1, 2), "cabinet": (0, 3), "coffeetable": (1, 2), "drawer": (1, 4),
                       "dresser": (0, 1), "garbagecan": (1, 1), "shelf": (0, 4), "sidetable": (1, 3), "sofa": (1, 1),
                       "tvstand": (1, 1)},
        "bedroom": {"armchair": (0, 1), "bed": (1, 1), "desk": (1, 2), "drawer": (3, 6), "dresser": (0, 1),
                    "garbagecan": (1, 1), "laundryhamper": (0, 1), "safe": (0, 1), "shelf": (2, 6),
                    "sidetable": (1, 2)},
        "bathroom": {"bathtubbasin": (0, 1), "cabinet": (2, 4), "countertop": (1, 1), "drawer": (0, 3),
                     "garbagecan": (1, 1), "handtowelholder": (1, 2), "shelf": (0, 2), "sinkbasin": (1, 2),
                     "toilet": (1, 1), "toiletpaperhanger": (1, 1), "towelholder": (1, 1)},
    },
}
#: Level -> room -> the things that may be there.
_THINGS = {
    "easy": {"kitchen": "apple bread egg potato tomato bowl mug plate spoon",
             "bedroom": "book cd cellphone pen pillow watch"},
    "full": {
        "kitchen": "apple bread egg lettuce potato tomato winebottle bowl cup mug plate pan pot kettle butterknife "
                   "fork knife ladle spatula spoon dishsponge peppershaker saltshaker soapbottle",
        "livingroom": "book candle cellphone creditcard keychain laptop newspaper pillow remotecontrol statue "
                      "tissuebox vase watch wateringcan",
        "bedroom": "alarmclock baseballbat basketball book bowl cd cellphone cloth creditcard keychain laptop mug pen "
                   "pencil pillow tennisracket tissuebox",
        "bathroom": "candle cloth dishsponge handtowel soapbar soapbottle spraybottle tissuebox toiletpaper towel",
    },
}
THINGS = {level: {room: things.split() for room, things in rooms.items()} for level, rooms in _THINGS.items()}
#: Level -> kind of goal -> rooms where it is set, as in ALFRED.
SET_IN: dict[str, dict[str, list[str]]] = {
    "easy": {"place": ["kitchen", "bedroom"], "light": ["bedroom"], "clean": ["kitchen"], "heat": ["kitchen"],
             "cool": ["kitchen"]},
    "full": {"place": ["kitchen", "livingroom", "bedroom", "bathroom"], "light": ["livingroom", "bedroom"],
             "clean": ["kitchen", "bathroom"], "heat": ["kitchen"], "cool": ["kitchen"],
             "two": ["kitchen", "livingroom", "bedroom", "bathroom"]},
}
