// First, for what it mends is used while other modules are read.
import './lib/locale';

import { mount } from 'svelte';

import App from './App.svelte';
import './app.css';
import './prose.css';

const target = document.getElementById('app');
if (target) mount(App, { target });
