export { type Metadata, metadata } from '../../src/eval/metadata.node.ts';
