import { KvasirError } from '../errors.ts';
import type { Segment } from '../methods/types.ts';
import type { ChatMessage } from '../model/types.ts';
import type { PromptMessage, PromptPart } from './types.ts';

type Render = (messages: readonly ChatMessage[], open: boolean) => string;

/** A rendered chat and its segments, by UTF-16 offsets in the text. */
export interface RenderedChat {
  readonly text: string;
  readonly segments: readonly Segment[];
}

/** What templates see of a message: its parts as one text. */
export function plainMessage({ role, content }: PromptMessage): ChatMessage {
  return { role, content: typeof content === 'string' ? content : content.map(({ text }) => text).join('') };
}

/**
 * Renders a chat and finds its messages and their named parts in the text, whatever the template: it is rendered once more with
 * marks at the borders of contents. What it writes after a message's content is known from rendering the chat up to there; all
 * else that stands before the next content belongs to the next message. The opening of the answer belongs to none.
 *
 * Raises `unsupported` where parts are named and the template changes contents so that they cannot be found.
 */
export function renderChat(render: Render, messages: readonly PromptMessage[]): RenderedChat {
  const text = render(messages.map(plainMessage), true);
  const mark = freeMark(text);
  let next = 0;
  const marked = messages.map(message => new MarkedMessage(message, mark, () => next++));
  const read = (rendered: string) => unmark(rendered, mark);
  const whole = read(
    render(
      marked.map(({ message }) => message),
      true,
    ),
  );
  if (whole.text !== text) {
    if (!marked.some(({ named }) => named)) return { text, segments: [] };
    throw new KvasirError('unsupported', "the model's chat template changes messages whose parts are named", {
      field: 'messages',
      allowed: 'messages without named parts, or a text with segments',
    });
  }

  const shown = marked.filter(message => whole.at.has(message.last));
  const tails = new Map<string, string>();
  const tail = (message: MarkedMessage, until: number): string => {
    const end = whole.at.get(message.last)!;
    const gap = text.slice(end, until);
    const key = `${message.role}\n${gap}`;
    let known = tails.get(key);
    if (known === undefined) {
      known = common(gap, tailAfter(marked.slice(0, marked.indexOf(message) + 1), render, read) ?? longest(tails, gap));
      tails.set(key, known);
    }
    return known;
  };
  const ends = shown.map(() => 0);
  // The last one first: what follows it is known of every template, also of those that refuse parts of a chat.
  for (let i = shown.length - 1; i >= 0; i--) {
    const following = shown[i + 1];
    const until = following ? following.firstAt(whole.at)! : text.length;
    ends[i] = whole.at.get(shown[i]!.last)! + tail(shown[i]!, until).length;
  }
  return { text, segments: shown.flatMap((message, i) => message.segments(whole.at, ends[i - 1] ?? 0, ends[i]!)) };
}

/** A message with marks at the borders of its runs: named parts, and what lies between them. */
class MarkedMessage {
  readonly role: string;
  /** As the template gets it. */
  readonly message: ChatMessage;
  readonly runs: readonly PromptPart[];
  readonly named: boolean;
  /** Marks by number: one before each run and one after the last; none where there is nothing to see. */
  readonly marks: readonly number[];

  constructor(message: PromptMessage, mark: string, number: () => number) {
    this.role = message.role;
    this.runs = runsOf(message);
    this.named = this.runs.some(({ segment }) => segment);
    const { content } = plainMessage(message);
    // Templates trim contents: no mark may stand beyond what they leave.
    const end = content.trimEnd().length;
    const start = Math.min(content.length - content.trimStart().length, end);
    this.marks = end === 0 ? [] : [...this.runs, null].map(number);
    let marked = '';
    let at = 0;
    let border = 0;
    for (const [i, n] of this.marks.entries()) {
      const place = Math.max(start, Math.min(end, border));
      marked += `${content.slice(at, place)}${mark}${n}${mark}`;
      at = place;
      border += this.runs[i]?.text.length ?? 0;
    }
    this.message = { role: message.role, content: marked + content.slice(at) };
  }

  get last(): number {
    return this.marks.at(-1) ?? -1;
  }

  firstAt(at: ReadonlyMap<number, number>): number | undefined {
    const seen = this.marks.find(mark => at.has(mark));
    return seen === undefined ? undefined : at.get(seen);
  }

  /** @param begin,end the message in the text, with what the template wrote around its content */
  segments(at: ReadonlyMap<number, number>, begin: number, end: number): Segment[] {
    const own = {
      kind: this.role === 'system' || this.role === 'developer' ? 'system' : 'turn',
      label: this.role,
    } as const;
    if (!this.named) return [{ ...own, from: begin, to: end }];
    return this.runs.flatMap((run, i) => {
      let from = at.get(this.marks[i]!);
      let to = at.get(this.marks[i + 1]!);
      if (!run.segment) {
        if (run.text.trim() === '') return [];
        if (i === 0) from = begin;
        if (i === this.runs.length - 1) to = end;
      }
      if (from === undefined || to === undefined || from >= to) return [];
      return [{ ...(run.segment ?? own), from, to }];
    });
  }
}

/** Parts without a name that follow one another are one run. */
function runsOf({ content }: PromptMessage): PromptPart[] {
  const runs: PromptPart[] = [];
  for (const part of typeof content === 'string' ? [{ text: content }] : content) {
    const before = runs.at(-1);
    if (before && !before.segment && !part.segment) runs[runs.length - 1] = { text: before.text + part.text };
    else if (part.text !== '') runs.push(part);
  }
  return runs;
}

/** A noncharacter that the text has not. */
function freeMark(text: string): string {
  for (let code = 0xfdd0; code <= 0xfdef; code++) {
    const mark = String.fromCharCode(code);
    if (!text.includes(mark)) return mark;
  }
  throw new KvasirError('invalid_request', 'messages have every noncharacter from U+FDD0 to U+FDEF', {
    field: 'messages',
    allowed: 'text without one of them',
  });
}

/** The text without marks, and where each stood. */
function unmark(rendered: string, mark: string): { text: string; at: ReadonlyMap<number, number> } {
  const at = new Map<number, number>();
  let text = '';
  for (const [i, piece] of rendered.split(mark).entries()) {
    if (i % 2 === 0) text += piece;
    else if (!at.has(Number(piece))) at.set(Number(piece), text.length);
  }
  return { text, at };
}

/** What the template writes after the last of these messages where the chat ends there; undefined where it refuses that. */
function tailAfter(
  messages: readonly MarkedMessage[],
  render: Render,
  read: (rendered: string) => ReturnType<typeof unmark>,
): string | undefined {
  try {
    const { text, at } = read(
      render(
        messages.map(({ message }) => message),
        false,
      ),
    );
    const end = at.get(messages.at(-1)!.last);
    return end === undefined ? undefined : text.slice(end);
  } catch {
    return undefined;
  }
}

function longest(tails: ReadonlyMap<string, string>, gap: string): string {
  let best = '';
  for (const tail of tails.values()) if (tail.length > best.length && gap.startsWith(tail)) best = tail;
  return best;
}

function common(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}
