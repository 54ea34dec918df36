import type { Draw } from '../draw.ts';
import { asks, conversations } from './conversation.ts';
import { fitting } from './fill.ts';
import { hide } from './haystack.ts';
import type { Question, Task } from './types.ts';
import { CITIES, COLORS, FIRST_NAMES, FOODS, HOBBIES, JOBS, LAST_NAMES, MONTHS, PETS } from './words.ts';

interface Person {
  readonly name: string;
  readonly text: string;
  readonly questions: readonly Question[];
}

/** Short biographies, alone or hidden in running text, and questions about them. */
export const PEOPLE: Task = {
  name: 'people',
  title: 'people: 1-5 questions in turn (all right)',
  generate(draw, length, tools) {
    const converse = conversations(draw, tools);
    const hidden = draw.chance(2 / 3);
    const count = Math.max(1, Math.min(draw.choice([1, 2, 3, 4, 5]), Math.floor(length / 90)));
    const head = draw.choice(['', 'Read the text and answer my questions.', 'Use the text to answer.']);
    const available = length - 40 - count * 36;
    const most = hidden ? draw.choice([1, 2, 4, 8]) : Number.POSITIVE_INFINITY;
    const people = new Map<string, Person>();
    for (let room = hidden ? available * 0.7 : available; people.size < most; ) {
      const person = biography(draw);
      if (people.has(person.name)) continue;
      room -= tools.count(person.text) + 2;
      if (room < 0) break;
      people.set(person.name, person);
    }
    if (people.size === 0) return null;
    const all = [...people.values()];
    const asked = draw.sample(
      all.flatMap((person, i) => person.questions.map(question => ({ question, i }))),
      count,
    );
    const questions = asked.map(entry => entry.question);
    const texts = all.map(person => person.text);
    const room = length - tools.size(converse({ head, context: texts.join('\n\n'), questions })) - 4 * texts.length;
    const pieces = hidden && room > 0 ? tools.filler.natural(draw, room) : [];
    const { text, offsets } =
      pieces.length > 0
        ? hide(draw, pieces, texts.map(each => `\n\n${each}\n\n`)) // biome-ignore format: one line
        : { text: texts.join('\n\n'), offsets: texts.map((_, i) => texts.slice(0, i).join('\n\n').length + (i && 2)) };
    const needles = all.map((person, i) => ({
      text: person.text,
      at: offsets[i]!,
      question: asked.findIndex(entry => entry.i === i),
    }));
    return fitting(tools, length, converse({ head, context: text, questions, needles }));
  },
};

function biography(draw: Draw): Person {
  const first = draw.choice(FIRST_NAMES);
  const name = `${first} ${draw.choice(LAST_NAMES)}`;
  const [He, his, His] = draw.chance(0.5) ? ['He', 'his', 'His'] : ['She', 'her', 'Her'];
  const job = draw.choice(JOBS);
  const aJob = `${/^[aeiou]/.test(job) ? 'an' : 'a'} ${job}`;
  const [home, born, year] = [draw.choice(CITIES), draw.choice(CITIES), String(draw.between(1935, 2005))];
  const [hobby, food, color, pet] = [draw.choice(HOBBIES), draw.choice(FOODS), draw.choice(COLORS), draw.choice(PETS)];
  const [month, age] = [draw.choice(MONTHS), String(draw.between(18, 79))];
  const say = (...texts: string[]) => draw.choice(texts);
  const origin = {
    text: say(
      `${name} was born in ${born} in ${year}.`,
      `Born in ${born} in ${year}, ${name} grew up in a quiet street.`,
    ),
    questions: [
      asks(`Where was ${name} born?`, `${name} was born in ${born}.`, born),
      asks(`In what year was ${name} born?`, `${name} was born in ${year}.`, year),
    ],
  };
  const years = {
    text: `${name} is ${age} years old.`,
    questions: [asks(`How old is ${name}?`, `${name} is ${age} years old.`, age)],
  };
  const facts = [
    {
      text: say(`${He} works as ${aJob}.`, `${first} is ${aJob}.`, `${He} earns ${his} living as ${aJob}.`),
      questions: [
        asks(`What is the job of ${name}?`, `${name} is ${aJob}.`, aJob),
        asks(`What does ${name} do for a living?`, `${name} works as ${aJob}.`, aJob),
      ],
    },
    {
      text: say(`${He} lives in ${home}.`, `Today ${first} lives in ${home}.`, `${His} home is in ${home}.`),
      questions: [
        asks(`Where does ${name} live?`, `${name} lives in ${home}.`, home),
        asks(`In which city does ${name} live now?`, `${name} lives in ${home}.`, home),
      ],
    },
    {
      text: say(`${He} likes ${hobby}.`, `In ${his} free time, ${first} enjoys ${hobby}.`),
      questions: [
        asks(`What does ${name} like to do?`, `${name} likes ${hobby}.`, hobby),
        asks(`What is the hobby of ${name}?`, `The hobby of ${name} is ${hobby}.`, hobby),
      ],
    },
    {
      text: say(`${His} favorite food is ${food}.`, `Most of all, ${first} likes to eat ${food}.`),
      questions: [asks(`What is the favorite food of ${name}?`, `The favorite food of ${name} is ${food}.`, food)],
    },
    {
      text: say(`${His} favorite color is ${color}.`, `${first} likes the color ${color} best.`),
      questions: [asks(`What is the favorite color of ${name}?`, `The favorite color of ${name} is ${color}.`, color)],
    },
    {
      text: say(`${He} has ${pet}.`, `At home, ${first} keeps ${pet}.`),
      questions: [asks(`Which pet does ${name} have?`, `${name} has ${pet}.`, pet)],
    },
    {
      text: `${His} birthday is in ${month}.`,
      questions: [asks(`In which month is the birthday of ${name}?`, `The birthday of ${name} is in ${month}.`, month)],
    },
  ];
  const kept = [draw.chance(0.3) ? years : origin, ...draw.sample(facts, draw.between(2, 5))];
  return { name, text: kept.map(fact => fact.text).join(' '), questions: kept.flatMap(fact => fact.questions) };
}
