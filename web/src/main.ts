import { mount } from 'svelte';
import App from './App.svelte';
import { Conversation } from './conversation.svelte.ts';
import { HttpClient } from './http-client.ts';
import './page.css';
import './library.css';

const client = new HttpClient(new URL('.', document.baseURI).href);
const conversation = new Conversation(client);
mount(App, {
  target: document.getElementById('app')!,
  props: { conversation, place: 'server', setKey: (key: string) => client.setKey(key) },
});
