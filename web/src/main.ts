import { mount } from 'svelte';

import './page.css';
import App from './App.svelte';
import { live } from './live.svelte';
import { theme } from './theme.svelte';

theme.start();
live.start();
const target = document.getElementById('page');
if (target !== null) mount(App, { target });
