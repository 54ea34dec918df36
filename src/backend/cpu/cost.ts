import {
  APPEND_BYTES,
  APPEND_ROWS,
  ATTEND_BYTES,
  ATTEND_GROUP,
  ATTEND_HEAD_DIM,
  ATTEND_REF_COUNT,
  ATTEND_ROWS,
  COPY_BYTES,
  COPY_COUNT,
  GRAM_BYTES,
  GRAM_FROM,
  GRAM_ROWS,
  GRAM_TO,
  KIND_APPEND,
  KIND_ATTEND,
  KIND_COPY,
  KIND_GRAM,
  KIND_MERGE,
  KIND_NEAREST,
  KIND_PROJECT,
  KIND_SENSE,
  KIND_SENSE_ROWS,
  MERGE_BYTES,
  MERGE_GROUP,
  MERGE_PARTS,
  MERGE_ROWS,
  NEAREST_BYTES,
  NEAREST_CHUNKS,
  NEAREST_ROWS,
  NEAREST_WIDTH,
  PAGE_TOKENS,
  PROJECT_BYTES,
  PROJECT_PARTS,
  PROJECT_RANK,
  PROJECT_ROWS,
  PROJECT_WIDTH,
  SENSE_BYTES,
  SENSE_FROM,
  SENSE_GROUP,
  SENSE_ROWS,
  SENSE_TO,
} from '../../../kernels/abi.ts';

/** Microseconds that a list of records takes on one thread, roughly; stops counting once it passes `enough`. */
export function estimate(i32: Int32Array, kind: number, items: number, count: number, enough: number): number {
  let total = 0;
  for (let i = 0; i < count && total < enough; i++) total += one(i32, kind, items / 4, i);
  return total;
}

function one(i32: Int32Array, kind: number, items: number, i: number): number {
  if (kind === KIND_ATTEND) {
    const at = items + (i * ATTEND_BYTES) / 4;
    const queries = i32[at + ATTEND_ROWS / 4]! * i32[at + ATTEND_GROUP / 4]!;
    const products = queries * i32[at + ATTEND_REF_COUNT / 4]! * PAGE_TOKENS * 2 * i32[at + ATTEND_HEAD_DIM / 4]!;
    return products / 20_000;
  }
  if (kind === KIND_SENSE_ROWS) {
    const at = items + (i * ATTEND_BYTES) / 4;
    const queries = i32[at + ATTEND_ROWS / 4]! * i32[at + ATTEND_GROUP / 4]!;
    const tokens = i32[at + ATTEND_REF_COUNT / 4]! * PAGE_TOKENS;
    return (queries * tokens * (i32[at + ATTEND_HEAD_DIM / 4]! + 16)) / 20_000;
  }
  if (kind === KIND_SENSE) {
    const at = items + (i * SENSE_BYTES) / 4;
    const entries = i32[at + SENSE_TO / 4]! - i32[at + SENSE_FROM / 4]!;
    return (i32[at + SENSE_ROWS / 4]! * i32[at + SENSE_GROUP / 4]! * entries) / 1_000;
  }
  if (kind === KIND_GRAM) {
    const at = items + (i * GRAM_BYTES) / 4;
    const to = i32[at + GRAM_TO / 4]!;
    return (i32[at + GRAM_ROWS / 4]! * (to - i32[at + GRAM_FROM / 4]!) * to) / 6_000;
  }
  if (kind === KIND_NEAREST) {
    const at = items + (i * NEAREST_BYTES) / 4;
    const products = i32[at + NEAREST_ROWS / 4]! * i32[at + NEAREST_CHUNKS / 4]! * 64 * i32[at + NEAREST_WIDTH / 4]!;
    return products / 6_000;
  }
  if (kind === KIND_PROJECT) {
    const at = items + (i * PROJECT_BYTES) / 4;
    const width = i32[at + PROJECT_PARTS / 4]! * i32[at + PROJECT_WIDTH / 4]!;
    return (i32[at + PROJECT_ROWS / 4]! * width * i32[at + PROJECT_RANK / 4]!) / 10_000;
  }
  if (kind === KIND_APPEND) return i32[items + (i * APPEND_BYTES + APPEND_ROWS) / 4]! * 0.2;
  if (kind === KIND_COPY) return i32[items + (i * COPY_BYTES + COPY_COUNT) / 4]! * 0.2;
  if (kind === KIND_MERGE) {
    const at = items + (i * MERGE_BYTES) / 4;
    return i32[at + MERGE_ROWS / 4]! * i32[at + MERGE_GROUP / 4]! * i32[at + MERGE_PARTS / 4]! * 0.02;
  }
  return 10;
}
