import protobuf from 'protobufjs/minimal.js';

/**
 * Writes ONNX models: the part of onnx.proto that a static graph over dense tensors needs.
 * Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
 */

export const FLOAT = 1;
export const UINT8 = 2;
export const INT64 = 7;
export type ElementType = typeof FLOAT | typeof UINT8 | typeof INT64;

export interface Initializer {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  /** Little-endian bytes, or where they lie in another file. */
  readonly data: Uint8Array | { readonly location: string; readonly offset: number; readonly length: number };
}

/** A number is an int attribute, `{ float }` a float one. */
export type Attribute = number | { readonly float: number } | readonly number[];

export interface Node {
  readonly op: string;
  /** '' is ONNX's own operator set. */
  readonly domain: '' | 'com.microsoft';
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A float32 input or output; a string names a dimension that is known at run time only. */
export interface Value {
  readonly name: string;
  readonly dims: readonly (number | string)[];
}

export interface Graph {
  readonly nodes: readonly Node[];
  readonly initializers: readonly Initializer[];
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
}

const IR_VERSION = 8;
const OPSET = 17;
const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_INTS = 7;
const LOCATION_EXTERNAL = 1;

const VARINT = 0;
const FIXED32 = 5;
const BYTES = 2;
const tag = (field: number, wire: number) => (field << 3) | wire;

/** Bytes of a ModelProto. */
export function encodeModel(graph: Graph): Uint8Array {
  const w = protobuf.Writer.create();
  int(w, 1, IR_VERSION);
  text(w, 2, 'kvasir');
  message(w, 7, () => {
    for (const node of graph.nodes) message(w, 1, () => encodeNode(w, node));
    text(w, 2, 'segment');
    for (const initializer of graph.initializers) message(w, 5, () => encodeInitializer(w, initializer));
    for (const value of graph.inputs) message(w, 11, () => encodeValue(w, value));
    for (const value of graph.outputs) message(w, 12, () => encodeValue(w, value));
  });
  for (const [domain, version] of [
    ['', OPSET],
    ['com.microsoft', 1],
  ] as const) {
    message(w, 8, () => {
      text(w, 1, domain);
      int(w, 2, version);
    });
  }
  return w.finish();
}

function encodeNode(w: protobuf.Writer, node: Node): void {
  for (const input of node.inputs) text(w, 1, input);
  for (const output of node.outputs) text(w, 2, output);
  text(w, 3, node.outputs.find(name => name !== '') ?? node.op);
  text(w, 4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(w, 5, () => {
      text(w, 1, name);
      if (typeof value === 'number') {
        int(w, 3, value);
        int(w, 20, ATTRIBUTE_INT);
      } else if ('float' in value) {
        w.uint32(tag(2, FIXED32)).float(value.float);
        int(w, 20, ATTRIBUTE_FLOAT);
      } else {
        for (const item of value) int(w, 8, item);
        int(w, 20, ATTRIBUTE_INTS);
      }
    });
  }
  text(w, 7, node.domain);
}

function encodeInitializer(w: protobuf.Writer, { name, type, dims, data }: Initializer): void {
  for (const dim of dims) int(w, 1, dim);
  int(w, 2, type);
  text(w, 8, name);
  if (data instanceof Uint8Array) {
    w.uint32(tag(9, BYTES)).bytes(data);
    return;
  }
  for (const [key, value] of Object.entries(data)) {
    message(w, 13, () => {
      text(w, 1, key);
      text(w, 2, String(value));
    });
  }
  int(w, 14, LOCATION_EXTERNAL);
}

function encodeValue(w: protobuf.Writer, { name, dims }: Value): void {
  text(w, 1, name);
  message(w, 2, () =>
    message(w, 1, () => {
      int(w, 1, FLOAT);
      message(w, 2, () => {
        for (const dim of dims) {
          message(w, 1, () => (typeof dim === 'number' ? int(w, 1, dim) : text(w, 2, dim)));
        }
      });
    }),
  );
}

function message(w: protobuf.Writer, field: number, body: () => void): void {
  w.uint32(tag(field, BYTES)).fork();
  body();
  w.ldelim();
}

function int(w: protobuf.Writer, field: number, value: number): void {
  w.uint32(tag(field, VARINT)).int64(value);
}

function text(w: protobuf.Writer, field: number, value: string): void {
  w.uint32(tag(field, BYTES)).string(value);
}
