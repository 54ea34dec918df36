/** Prompts that the bundled model does well; it was trained on these phrasings. */
export interface Suggestion {
  readonly title: string;
  /** Made when chosen. `note` is shown beside the message, so that a reader can check the answer. */
  make(random?: () => number): { text: string; note?: string };
}

const plain = (text: string): Suggestion => ({ title: text, make: () => ({ text }) });

export const SUGGESTIONS: readonly Suggestion[] = [
  plain('My name is Otto and I live in Oslo.'),
  plain('What is 12 + 30?'),
  plain('Why is the sky blue?'),
  plain('Tell me a story about a fox.'),
  { title: 'Find a pass key in 1,000 tokens', make: random => passkey(1000, random) },
  { title: 'Find a pass key in 4,000 tokens', make: random => passkey(4000, random) },
];

/** What to ask next, after a prompt that leaves something to remember. */
export const FOLLOW_UPS: Readonly<Record<string, string>> = {
  'My name is Otto and I live in Oslo.': 'What is my name?',
};

const HEAD =
  'There is important information hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about it.';
const NOISE = ' The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';
/** Tokens of one round of noise in the bundled model's vocabulary. */
const NOISE_TOKENS = 24.1;

/** A number hidden at a random place among about `tokens` tokens of noise. */
export function passkey(tokens: number, random: () => number = Math.random): { text: string; note: string } {
  const key = String(10_000 + Math.floor(random() * 990_000));
  const rounds = Math.max(1, Math.round((tokens - 76) / NOISE_TOKENS));
  const before = Math.floor(random() * (rounds + 1));
  const needle = ` The pass key is ${key}. Remember it. ${key} is the pass key.`;
  const body = NOISE.repeat(before) + needle + (before === 0 ? '\n\n' : '') + NOISE.repeat(rounds - before);
  return { text: `${HEAD}\n\n${body}\n\nWhat is the pass key?`, note: `The hidden pass key is ${key}.` };
}
