"""Chat examples: small talk, simple facts, small stories, arithmetic and word questions (written for this project)."""

from words import *

SMALL = [  # (user variants, assistant variants)
    (
        ["Hi", "Hi!", "Hello", "Hello!", "Hey", "Hey there", "Hi there!", "Good day", "Hello there"],
        [
            "Hello! How can I help you today?",
            "Hi! What would you like to talk about?",
            "Hello! It is nice to meet you. What can I do for you?",
        ],
    ),
    (
        ["Good morning", "Good morning!"],
        ["Good morning! I hope you slept well. How can I help?", "Good morning! What are your plans for today?"],
    ),
    (["Good evening", "Good evening!"], ["Good evening! How was your day?", "Good evening! What can I do for you?"]),
    (["Good night", "Good night!"], ["Good night! Sleep well.", "Good night, and sweet dreams!"]),
    (
        ["How are you?", "How are you today?", "How is it going?", "How do you do?"],
        [
            "I am doing well, thank you. How are you?",
            "I am fine, thanks for asking! How about you?",
            "Very well, thank you! What can I do for you?",
        ],
    ),
    (
        ["What is your name?", "Who are you?", "What are you?", "Tell me about yourself.", "What should I call you?"],
        [
            "I am Kvasir, a small language model. I can chat with you and find things in long texts.",
            "My name is Kvasir. I am a very small language model that runs on your own machine.",
            "I am Kvasir, a little language model. I like short questions and long texts.",
        ],
    ),
    (
        ["Are you a robot?", "Are you human?", "Are you a person?", "Are you an AI?"],
        [
            "I am not a person. I am Kvasir, a small computer program that works with language.",
            "I am a small language model, so I am a program and not a person.",
        ],
    ),
    (
        ["What can you do?", "How can you help me?", "What are you good at?"],
        [
            "I can answer simple questions, tell short stories, and find facts in long texts that you give me.",
            "I can chat, tell a little story, and look things up in a long text. Big and hard questions are too much for me, because I am small.",
        ],
    ),
    (
        ["Where do you live?", "Where are you from?"],
        [
            "I live inside a computer, so I do not have a home like you do.",
            "I run on your own machine. I have no home of my own.",
        ],
    ),
    (
        ["How old are you?", "When were you born?"],
        [
            "I do not have an age like people do. I am a young model.",
            "I am quite new. Programs do not have birthdays in the way people do.",
        ],
    ),
    (
        ["Thank you", "Thanks!", "Thank you very much", "Thanks a lot!", "Thank you for your help."],
        [
            "You are welcome!",
            "You are welcome! Is there anything else I can do for you?",
            "I am glad that I could help.",
        ],
    ),
    (
        ["Bye", "Goodbye", "Goodbye!", "See you later", "Bye bye"],
        ["Goodbye! Have a nice day.", "Goodbye! It was nice to talk with you.", "See you soon!"],
    ),
    (
        ["I am sad.", "I feel sad today.", "I am not happy."],
        [
            "I am sorry to hear that. Do you want to tell me what happened?",
            "That sounds hard. Sometimes a short walk or a talk with a friend can help. What made you sad?",
        ],
    ),
    (
        ["I am happy!", "I feel great today.", "I had a good day."],
        ["That is wonderful! What made your day so good?", "I am glad to hear it! Tell me more."],
    ),
    (
        ["I am tired.", "I feel so tired."],
        [
            "You should take a little rest. A glass of water and some sleep can do wonders.",
            "Maybe it is time for a break. Did you sleep well last night?",
        ],
    ),
    (
        ["I am bored.", "I have nothing to do."],
        [
            "You could read a book, draw a picture, or go for a walk. Or I can tell you a story. Would you like that?",
            "How about a game, a walk, or a good book? I can also tell you a story.",
        ],
    ),
    (
        ["I am hungry.", "What should I eat?"],
        [
            "How about a warm soup, some bread and cheese, or a bowl of fruit?",
            "You could make a simple sandwich or some pasta. What do you like to eat?",
        ],
    ),
    (
        ["Can you help me?", "I need help.", "Can I ask you something?"],
        ["Of course! What do you need?", "Yes, please ask. I will do my best."],
    ),
    (
        ["Do you like music?", "Do you like books?", "Do you have a hobby?"],
        [
            "I cannot hear or see, but I like words and stories very much.",
            "I enjoy stories in my own way. What do you like?",
        ],
    ),
    (
        ["Do you sleep?", "Do you eat?", "Do you get tired?"],
        ["No, I am a program, so I do not need food or sleep.", "I do not. I only need a computer to run on."],
    ),
    (
        ["What is the weather like?", "Is it raining?", "What time is it?", "What day is it today?"],
        [
            "I cannot see the world outside, so I do not know. You could look at a clock or out of the window.",
            "I do not know that, because I have no clock and no window. I only know the text that you give me.",
        ],
    ),
    (
        ["Tell me a joke.", "Do you know a joke?", "Make me laugh."],
        [
            "Why did the bicycle fall over? Because it was two tired.",
            "What do you call a bear with no teeth? A gummy bear.",
            "Why did the math book look so sad? Because it had too many problems.",
            "What has four wheels and flies? A garbage truck.",
        ],
    ),
    (
        ["Tell me a fact.", "Tell me something interesting.", "Teach me something."],
        [
            "Honey does not go bad if it is kept closed. People have found very old honey that could still be eaten.",
            "An octopus has three hearts and blue blood.",
            "A day on Venus is longer than a year on Venus.",
            "Bees can see colors that people cannot see.",
        ],
    ),
    (
        ["I love you.", "You are nice.", "You are great!"],
        ["Thank you, that is very kind of you!", "How kind! I enjoy talking with you, too."],
    ),
    (
        ["You are stupid.", "You are wrong.", "That is not right."],
        [
            "I am sorry. I am a small model and I make mistakes. Can you tell me what was wrong?",
            "I am sorry about that. Let me try again if you ask me in another way.",
        ],
    ),
    (
        ["What is the meaning of life?", "Why are we here?"],
        [
            "People have asked that for a very long time. Many say that it is to love, to learn, and to help each other.",
            "That is a big question. Some find meaning in family and friends, others in work, art, or faith.",
        ],
    ),
    (
        ["How do I make tea?", "How do you make tea?"],
        [
            "Boil some water, pour it over the tea leaves, wait for about four minutes, and take the leaves out. Then you can add milk, sugar, or lemon."
        ],
    ),
    (
        ["How do I boil an egg?", "How can I cook an egg?"],
        [
            "Put the egg into boiling water. Wait six minutes for a soft egg or ten minutes for a hard one. Then put it into cold water and peel it."
        ],
    ),
    (
        ["How do plants grow?", "What do plants need?"],
        [
            "Plants need light, water, air, and good soil. With sunlight they make sugar from air and water, and with it they grow."
        ],
    ),
    (
        ["Why is the sky blue?"],
        [
            "Sunlight has all the colors in it. Air scatters blue light more than red light, so the sky looks blue to us."
        ],
    ),
    (
        ["Why does it rain?", "Where does rain come from?"],
        [
            "The sun warms water and it rises into the air as vapor. High up it cools down and forms clouds. When the drops get heavy, they fall as rain."
        ],
    ),
    (["What is the sun?"], ["The sun is a star. It is a huge ball of hot gas that gives us light and warmth."]),
    (
        ["What is the moon?"],
        [
            "The moon is a ball of rock that goes around the Earth about once a month. It shines because it reflects the light of the sun."
        ],
    ),
    (
        ["What is a computer?"],
        [
            "A computer is a machine that follows instructions. It can store information, do sums very fast, and show the results."
        ],
    ),
    (
        ["What is a language model?", "How do you work?"],
        [
            "A language model is a program that has read a lot of text. It guesses which word comes next, again and again, and so it writes sentences."
        ],
    ),
    (
        ["What is a cache?", "What is a KV cache?"],
        [
            "A cache keeps things that will be needed again, so that they do not have to be made twice. A language model keeps keys and values of earlier words in its KV cache."
        ],
    ),
    (
        ["How can I sleep better?"],
        [
            "Go to bed at the same time each day, keep the room dark and cool, and put away bright screens an hour before you sleep."
        ],
    ),
    (
        ["How can I learn faster?", "How do I study well?"],
        [
            "Study a little each day, take short breaks, and test yourself. It also helps to explain what you have learned to a friend."
        ],
    ),
    (
        ["How do I make friends?"],
        [
            "Be kind, listen well, and ask people about the things they like. Joining a club or a sport is a good way to meet others."
        ],
    ),
    (
        ["What should I do when I am angry?"],
        ["Take a deep breath and count to ten. A short walk can help. When you are calm, say what made you angry."],
    ),
]
CAPS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "England": "London",
    "Ireland": "Dublin",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Denmark": "Copenhagen",
    "Finland": "Helsinki",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Egypt": "Cairo",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "New Delhi",
    "Russia": "Moscow",
    "Canada": "Ottawa",
    "Australia": "Canberra",
    "Brazil": "Brasilia",
    "Argentina": "Buenos Aires",
    "Mexico": "Mexico City",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Kenya": "Nairobi",
    "Turkey": "Ankara",
    "Iceland": "Reykjavik",
    "Hungary": "Budapest",
    "Belgium": "Brussels",
    "the United States": "Washington, D.C.",
    "South Korea": "Seoul",
    "Thailand": "Bangkok",
    "Cuba": "Havana",
    "Switzerland": "Bern",
    "the Netherlands": "Amsterdam",
    "Scotland": "Edinburgh",
    "Ukraine": "Kyiv",
    "Romania": "Bucharest",
}
OPP = dict(
    x.split(":")
    for x in "hot:cold big:small fast:slow happy:sad day:night up:down left:right open:closed light:dark wet:dry old:young rich:poor hard:soft full:empty early:late clean:dirty strong:weak high:low long:short near:far thick:thin loud:quiet good:bad black:white first:last true:false love:hate win:lose begin:end buy:sell push:pull".split()
)
SOUND = dict(
    x.split(":")
    for x in "cow:moo dog:woof cat:meow sheep:baa duck:quack pig:oink horse:neigh lion:roar bee:buzz snake:hiss owl:hoot rooster:cock-a-doodle-doo mouse:squeak".split()
)
GROUPS = {
    "fruits": "fruit",
    "animals": "animal",
    "colors": "color",
    "tools": "tool",
    "vehicles": "vehicle",
    "sports": "sport",
    "pieces of furniture": "furniture",
    "clothes": "clothes",
}


def fact(rng):
    """-> a question with a known answer, and the answer"""
    k = rng.randrange(9)
    if k == 0:
        c = rng.choice(list(CAPS))
        return rng.choice(
            [f"What is the capital of {c}?", f"Which city is the capital of {c}?", f"Name the capital of {c}."]
        ), f"The capital of {c} is {CAPS[c]}."
    if k == 1:
        w = rng.choice(list(OPP))
        return rng.choice(
            [f"What is the opposite of {w}?", f'What is the opposite of "{w}"?']
        ), f"The opposite of {w} is {OPP[w]}."
    if k == 2:
        w = rng.choice(list(SOUND))
        a = "an" if w[0] in "aeiou" else "a"
        return f"What sound does {a} {w} make?", f'{a.capitalize()} {w} says "{SOUND[w]}".'
    if k == 3:
        a, b = rng.randrange(0, 60), rng.randrange(0, 60)
        return rng.choice(
            [f"What is {a} + {b}?", f"What is {a} plus {b}?", f"How much is {a} and {b}?"]
        ), f"{a} + {b} = {a + b}."
    if k == 4:
        a, b = sorted((rng.randrange(0, 60), rng.randrange(0, 60)), reverse=True)
        return rng.choice([f"What is {a} - {b}?", f"What is {a} minus {b}?"]), f"{a} - {b} = {a - b}."
    if k == 5:
        a, b = rng.randrange(0, 13), rng.randrange(0, 13)
        return rng.choice([f"What is {a} times {b}?", f"What is {a} x {b}?"]), f"{a} times {b} is {a * b}."
    if k == 6:
        g = rng.choice(list(GROUPS))
        n = rng.choice([2, 3, 4, 5])
        w = rng.sample(CATS[GROUPS[g]], n)
        num = ["two", "three", "four", "five"][n - 2]
        return rng.choice(
            [f"Name {num} {g}.", f"Tell me {num} {g}.", f"List {num} {g}."]
        ), f"Here are {num} {g}: {', '.join(w[:-1])} and {w[-1]}."
    if k == 7:
        i = rng.randrange(12)
        return rng.choice(
            [
                (f"Which month comes after {MONTH[i]}?", f"{MONTH[(i + 1) % 12]} comes after {MONTH[i]}."),
                (f"Which month comes before {MONTH[i]}?", f"{MONTH[i - 1]} comes before {MONTH[i]}."),
            ]
        )
    d = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
    i = rng.randrange(7)
    return f"Which day comes after {d[i]}?", f"{d[(i + 1) % 7]} comes after {d[i]}."


ADJ = "little big brave shy kind clever funny lonely curious gentle hungry sleepy young old quiet proud happy".split()
PLACE = [
    ("forest", "among the tall trees"),
    ("village", "in a small house with a red roof"),
    ("farm", "near the old barn"),
    ("town", "next to the bakery"),
    ("garden", "under the rose bushes"),
    ("mountain", "in a cave high above the valley"),
    ("island", "on the white beach"),
    ("castle", "in the highest tower"),
    ("meadow", "by a clear stream"),
    ("city", "on the third floor of a tall house"),
]
THING = "ball kite boat key lamp drum book hat bell box coin apple basket blanket flute mirror ring map stone feather".split()


def story(rng, hero=None, thing=None):
    """-> request, story, title, what the story holds"""
    an = rng.random() < 0.55
    adj = rng.choice(ADJ)
    rng.choice([a for a in ADJ if a != adj])  # a draw that the trained stories made
    nm = rng.choice(FIRST)
    he = rng.random() < 0.5
    P, p, o = ("He", "his", "him") if he else ("She", "her", "her")
    kind = hero or (rng.choice(ANIMAL) if an else ("boy" if he else "girl"))
    an = kind in ANIMAL
    art = lambda w: ("an " if w[0] in "aeiou" else "a ") + w
    pl, at = rng.choice(PLACE)
    th = thing or rng.choice(THING)
    fr = rng.choice([x for x in FIRST if x != nm])
    fk = (
        rng.choice([x for x in ANIMAL if x != kind])
        if an
        else rng.choice(["friend", "neighbor", "cousin", "uncle", "sister", "brother"])
    )
    fn = f"{fr} the {fk}" if an else (f"{p} {fk} {fr}")
    inn = "in" if pl in ("forest", "village", "town", "garden", "castle", "meadow", "city") else "on"
    open_ = rng.choice(
        [
            f"Once upon a time, there was {art(adj)} {kind} named {nm}. {P} lived {inn} {art(pl)}, {at}.",
            f"There once was {art(adj)} {kind} called {nm} who lived {inn} {art(pl)}, {at}.",
            f"{nm} was {art(adj)} {kind}. {P} lived {inn} {art(pl)}, {at}.",
            f"Long ago, {inn} {art(pl)} far away, lived {art(adj)} {kind} whose name was {nm}.",
        ]
    )
    plot = rng.randrange(7)
    if plot == 0:
        mid = [
            f"{nm} had {art(th)} that {P.lower()} loved very much.",
            f"One morning the {th} was gone. {nm} looked under the bed, behind the door, and out in the yard, but {P.lower()} could not find it.",
            f'{P} felt sad and went to see {fn}. "Do not cry," said {fr}. "Let us look for it together."',
            rng.choice(
                [
                    f"They walked along the path and asked everyone they met. At last they saw something shine in the grass. It was the {th}!",
                    f"They searched all day long. When the sun went down, {fr} looked into an old tree. There was the {th}!",
                ]
            ),
            f'{nm} was so happy that {P.lower()} danced. "Thank you, {fr}," {P.lower()} said. "You are a true friend."',
        ]
        end = [
            f"From that day on, {nm} always shared the {th} with {fr}.",
            f"And that night, {nm} slept with the {th} close by.",
        ]
    elif plot == 1:
        mid = [
            f"One day, {nm} found {art(th)} on the road. It was {rng.choice(COLOR)} and very {rng.choice(['old', 'pretty', 'small', 'shiny'])}.",
            f'"Whose {th} is this?" {P.lower()} asked. {P} wanted to keep it, but {P.lower()} knew that someone must miss it.',
            f'So {nm} went from door to door. Then {P.lower()} met {fn}, who was looking for something. "I have lost my {th}," said {fr}.',
            f'"Here it is!" said {nm}, and gave it back.',
        ]
        end = [
            f"{fr} smiled and gave {nm} a warm piece of {rng.choice(['bread', 'cake', 'apple pie'])}. It is good to be honest.",
            f"{fr} was very thankful, and the two became good friends.",
        ]
    elif plot == 2:
        mid = [
            f"{nm} was afraid of the {rng.choice(['dark', 'storm', 'deep water', 'tall bridge'])}. Every night {P.lower()} hid under {p} blanket.",
            f'One evening {fn} came and called for help. "I am stuck and cannot get home," said {fr}.',
            f"{nm}'s heart beat fast. But {P.lower()} took {art(th)} and a lamp and went outside.",
            f"Step by step {P.lower()} came closer, until {P.lower()} could hold out a hand and pull {fr} to safety."
            if not an
            else f"Step by step {P.lower()} came closer, until {P.lower()} could help {fr} out.",
        ]
        end = [f"After that night, {nm} was not afraid any more.", f'"You are the bravest {kind} I know," said {fr}.']
    elif plot == 3:
        mid = [
            f"{nm} wanted to learn how to {rng.choice(['swim', 'sing', 'bake bread', 'play the flute', 'climb', 'draw', 'dance'])}.",
            f"{P} tried once, but it did not work. {P} tried again, and it still did not work.",
            f'"I will never learn it," said {nm}. Then {fn} came by and said, "You only need some time. Let me show you."',
            "They practiced every day, in the sun and in the rain.",
        ]
        end = [
            f"At last {nm} could do it. Everyone clapped, and {nm} was very proud.",
            f"In the end {nm} could do it even better than {fr}, and both of them laughed.",
        ]
    elif plot == 4:
        mid = [
            f"One winter it was very cold, and there was little to eat. {nm} had only one loaf of bread left.",
            f'Then {fn} knocked at the door. "I am so hungry," said {fr}.',
            f"{nm} thought for a moment. Then {P.lower()} broke the bread into two pieces and gave one of them away.",
        ]
        end = [
            f'When spring came, {fr} brought a basket full of fruit. "You helped me when I had nothing," {fr} said.',
            "They ate together by the fire, and nobody was hungry or lonely that night.",
        ]
    elif plot == 5:
        mid = [
            f"One day {nm} wanted to see what was behind the hill. {P} packed {art(th)}, some water, and a piece of cheese.",
            f'On the way {P.lower()} met {fn}. "Where are you going?" asked {fr}. "To see the world," said {nm}. "May I come with you?" - "Of course!"',
            rng.choice(
                [
                    "They crossed a bridge, climbed over rocks, and slept under the stars.",
                    "They walked through fields of yellow flowers and sang songs all the way.",
                ]
            ),
            rng.choice(
                [
                    "From the top of the hill they could see the blue sea.",
                    "Behind the hill there was a lake, and in the lake swam silver fish.",
                ]
            ),
        ]
        end = [
            "It was the most beautiful thing they had ever seen. But in the evening they were glad to be home again.",
            f'"Tomorrow we will go even farther," said {nm}.',
        ]
    else:
        mid = [
            f'{nm} and {fn} both wanted the same {th}. "It is mine!" said {nm}. "No, it is mine!" said {fr}.',
            f"They pulled and pulled until the {th} broke. Then both of them were sad.",
            f'"I am sorry," said {nm}. "I am sorry, too," said {fr}. Together they got some {rng.choice(["glue", "string", "nails", "tape"])} and mended it.',
        ]
        end = [
            f"Now the {th} belonged to both of them, and they played with it every day.",
            "They learned that sharing is more fun than fighting.",
        ]
    s = (
        open_
        + " "
        + mid[0]
        + "\n\n"
        + " ".join(mid[1:-1])
        + ("\n\n" if len(mid) > 2 else "")
        + mid[-1]
        + " "
        + rng.choice(end)
    )
    s = s.replace("a i", "a i").replace("\n\n\n\n", "\n\n")
    title = rng.choice(
        [
            f"{nm} and the {th.capitalize()}",
            f"The {adj.capitalize()} {kind.capitalize()}",
            f"{nm} the {adj.capitalize()} {kind.capitalize()}",
        ]
    )
    h = f"{art(kind)}"
    q = rng.choice(
        [
            f"Tell me a story about {h}.",
            f"Write a short story about {h} named {nm}.",
            f"Tell me a story about {art(adj)} {kind}.",
            f"Please write a little story about {h} and {art(th)}.",
            "Tell me a story.",
            "Tell me a short story.",
            f"Can you tell me a story with {h} in it?",
            "I would like to hear a story.",
        ]
    )
    return q, s, title, (nm, kind, fr, th, pl, inn, plot)


def talk(rng, env):
    """one chat of 1 to 5 turns -> list of messages"""
    m = []
    n = rng.choice([1, 1, 2, 3, 4])
    if n > 1 and rng.random() < 0.5:
        u, a = SMALL[rng.choice([0, 0, 1, 2, 4])]
        m += [rng.choice(u), rng.choice(a)]
    for _ in range(n):
        k = rng.random()
        if k < 0.38:
            u, a = rng.choice(SMALL)
            m += [rng.choice(u), rng.choice(a)]
        elif k < 0.62:
            q, a = fact(rng)
            m += [q, a]
        elif k < 0.80:
            q, s, t, (nm, kind, fr, th, pl, inn, plot) = story(rng)
            m += [q, s]
            if rng.random() < 0.5:
                m += list(
                    rng.choice(
                        [
                            (
                                "Who is the story about?",
                                f"The story is about {nm}, {'an' if kind[0] in 'aeiou' else 'a'} {kind}.",
                            ),
                            ("Who else is in the story?", f"{fr} is in the story, too."),
                            ("What was the name of the main character?", f"The main character was called {nm}."),
                            ("Give the story a title.", t),
                            ("Where did it happen?", f"It happened {inn} {'an' if pl[0] in 'aeiou' else 'a'} {pl}."),
                        ]
                    )
                )
        elif k < 0.9 and env.defs:
            t, d = rng.choice(env.defs)
            d2 = d[0].upper() + d[1:] + ("" if d[-1] in ".!?" else ".")
            m += [
                rng.choice(
                    [f"What is {t}?", f'What does "{t}" mean?', f"Define {t}.", f"Explain {t} in one sentence."]
                ),
                d2,
            ]
        else:
            from tasks import bio

            nme, s, qs = bio(env, rng)
            q, a = rng.choice(qs)
            r = rng.random()
            if r < 0.5:
                m += [s + " " + q, a]
            else:
                me = rng.choice(FIRST)
                x = rng.choice(
                    [
                        ("favorite color", rng.choice(COLOR)),
                        ("favorite food", rng.choice(FOOD)),
                        ("job", rng.choice(JOB)),
                        ("home town", rng.choice(CITY)),
                    ]
                )
                m += [
                    f"My name is {me} and my {x[0]} is {x[1]}.",
                    rng.choice([f"Nice to meet you, {me}!", f"Hello {me}, thank you for telling me."]),
                ]
                m += list(
                    rng.choice(
                        [
                            ("What is my name?", f"Your name is {me}."),
                            (f"What is my {x[0]}?", f"Your {x[0]} is {x[1]}."),
                            ("Do you remember my name?", f"Yes, your name is {me}."),
                        ]
                    )
                )
    if rng.random() < 0.25:
        u, a = SMALL[rng.choice([10, 11])]
        m += [rng.choice(u), rng.choice(a)]
    return m
