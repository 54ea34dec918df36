/** What the parity golden starts from: plain text to continue, code, lists, other scripts, and chats in the model's own format. */
const PLAIN = [
  'The lighthouse keeper climbed the stairs every evening at six, and on the night of the storm he',
  'Photosynthesis is the process by which',
  'def binary_search(items, target):\n    """Return the index of target in the sorted list items, or -1."""\n',
  '# How to bake bread\n\n1. Mix the flour, water, salt and yeast.\n2.',
  'Der schnellste Weg von Berlin nach Hamburg ist',
  'Table 1: Planets and their distance from the Sun\n\n| Planet | Distance (million km) |\n| --- | --- |\n| Mercury | 57.9 |\n',
  'Dear Ms. Okafor,\n\nThank you for your letter of 12 March about the broken heating in flat 4B.',
  'import { readFile } from "node:fs/promises";\n\nexport async function countLines(path: string): Promise<number> {\n',
  'Q: A train leaves at 14:05 and arrives at 17:50. How long is the journey?\nA:',
  'Once upon a time, in a village between two rivers, there lived a clockmaker who',
];

const CHATS = [
  'What causes the tides?',
  'Write a short poem about autumn rain.',
  'Explain recursion to a ten-year-old.',
  'List five ways to save water at home.',
  'Summarise in two sentences: The old bridge was closed in 1998 after inspectors found cracks in its main girder. A campaign by residents raised money for repairs, and it reopened to walkers and cyclists twelve years later.',
  'Rewrite more politely: "Send me the report now."',
  'What is 17 times 23? Show the steps.',
  'Give me a JSON object with name, age and city of an invented person.',
  'Who was Marie Curie?',
  'Suggest a name for a café run by two sisters, and say why.',
];

const SYSTEM = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face';

export const PROMPTS: readonly string[] = [
  ...PLAIN,
  ...CHATS.map(
    text => `<|im_start|>system\n${SYSTEM}<|im_end|>\n<|im_start|>user\n${text}<|im_end|>\n<|im_start|>assistant\n`,
  ),
];
