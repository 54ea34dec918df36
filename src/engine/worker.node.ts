import { parentPort, workerData } from 'node:worker_threads';
import { Engine } from './engine.ts';
import { nodePlatform } from './platform.node.ts';
import { serveEngine } from './remote.ts';
import { nodePort } from './thread.node.ts';
import type { EngineOptions } from './types.ts';

serveEngine(new Engine(nodePlatform(), workerData as EngineOptions), nodePort(parentPort!));
