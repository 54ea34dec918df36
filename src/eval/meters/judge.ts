import type { Turn } from '../tasks/types.ts';

/** Whether a freely written answer is right: the whole answer where it must end there, else every value in it. */
export function judge(turn: Turn, written: string, ends: boolean): boolean {
  if (ends) return written.trim() === turn.answer.trim();
  const normal = (text: string) => text.toLowerCase().replace(/\s+/g, ' ').trim();
  return turn.parts.every(part => normal(written).includes(normal(part)));
}
