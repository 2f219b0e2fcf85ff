// The page on a real cluster: a running, a failed and a finished application and a stream; then the master is
// killed and started again with the page open.

import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { complaints, isOfTheNetwork, launch, overflow, screenshot, SCHEMES, serious, SIZES, type Chromium } from './chromium';
import { Cluster, until } from './cluster';

const HOSTILE = `failed <img src=x onerror="alert(1)"><script>alert(2)</script>`;
const EVENTS = 6_820;
/** Small tables are read in place otherwise, and there are no stages to look at. */
const SPREAD = 'SET drumline.bytes_per_task = 1;\n';

let browser: Chromium;
let cluster: Cluster;
let page: Page;
let said: string[];

beforeAll(async () => {
  [browser, cluster] = await Promise.all([launch(), Cluster.start()]);
  const sent = await cluster.run('replay', '--quiet', `--brokers=${cluster.brokers}`, '--topics-partitions=2');
  expect(sent.said).toBe('');
  const stream = cluster.file(
    'stream.toml',
    `name = "listens"
brokers = "${cluster.brokers}"
flush_interval = "1s"

[[topic]]
topic = "listen_events"
schema = { ts = "bigint", artist = "varchar", song = "varchar", duration = "double" }
`,
  );
  const applied = await cluster.run('stream', 'apply', stream);
  expect(applied.code, applied.said).toBe(0);

  page = await browser.context.newPage();
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await page.setViewportSize(SIZES[1]!);
  said = complaints(page);
  await page.goto(cluster.url);
});

afterAll(async () => {
  await browser?.close();
  await cluster?.stop();
});

/** Whole in both sizes and schemes, with a picture of each. */
async function whole(name: string): Promise<void> {
  for (const size of SIZES) {
    for (const scheme of SCHEMES) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await page.setViewportSize(size);
      const at = `${name}, ${size.name}, ${scheme}`;
      expect(await overflow(page), at).toBeLessThanOrEqual(0);
      expect(await serious(page), at).toEqual([]);
      await screenshot(page, `cluster-${name}-${size.name}-${scheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await page.setViewportSize(SIZES[1]!);
}

function go(link: string): Promise<unknown> {
  return page.evaluate(`location.hash = ${JSON.stringify(link)}`);
}

const row = (text: string) => page.getByRole('row').filter({ hasText: text });

test('signing in takes the token', async () => {
  await page.getByLabel('Token').waitFor();
  expect(said).toEqual([]);
  await page.getByLabel('Token').fill('nothing of the kind');
  await page.getByLabel('Token').press('Enter');
  await page.getByRole('alert').filter({ hasText: /./ }).waitFor();
  await page.getByLabel('Token').fill(cluster.token());
  await page.getByLabel('Token').press('Enter');
  await page.getByText('live', { exact: true }).waitFor();
  // The browser itself tells of an answer 401, that to the wrong token.
  expect(said.filter((one) => !one.includes('401'))).toEqual([]);
  said.length = 0;
});

test('a stream, and applications that end, fail and run, show as they go', async () => {
  await row('listens').first().waitFor();
  await go('#/streams/listens');
  await page.getByText(EVENTS.toLocaleString('en'), { exact: true }).first().waitFor({ timeout: 60_000 });
  await page.getByRole('row').filter({ hasText: 'dead letters' }).waitFor();
  await whole('stream');
  await go('#/');

  const ends = cluster.file('ends.sql', `${SPREAD}CREATE TABLE artists AS SELECT artist, count(*) AS plays FROM listen_events GROUP BY artist;\nSELECT count(*) FROM artists;`);
  const ended = await cluster.run('submit', '--name=finished nightly', ends);
  expect(ended.code, ended.said).toBe(0);
  await row('finished nightly').getByText('succeeded').waitFor();

  const fails = cluster.file('fails.sql', 'SELECT artist,\n       nothing_like_it\nFROM listen_events');
  const failed = await cluster.run('submit', `--name=${HOSTILE}`, fails);
  expect(failed.code, failed.said).toBe(1);
  await row(HOSTILE).getByText('failed', { exact: true }).waitFor();
  await page.getByRole('heading', { name: '1 thing needs attention' }).waitFor();

  const runs = cluster.file('runs.sql', `${SPREAD}SELECT count(*) FROM listen_events a, listen_events b, listen_events c WHERE a.duration * b.duration * c.duration < 0`);
  cluster.runBeside('running', 'submit', '--name=running for long', runs);
  await row('running for long').getByText('running', { exact: true }).waitFor();
  await whole('overview');
  expect(await page.locator('main img, main script').count()).toBe(0);

  await page.getByRole('link', { name: HOSTILE }).first().click();
  await page.getByRole('heading', { level: 1, name: HOSTILE }).waitFor();
  await page.locator('.box.bad').getByText('nothing_like_it').first().waitFor();
  await whole('failed');
  await go('#/');
  await page.getByRole('link', { name: 'finished nightly' }).click();
  await page.getByText(/rows into .*artists/).waitFor();
  await whole('finished');
  await go('#/');
  await page.getByRole('link', { name: 'running for long' }).click();
  await page.getByRole('link', { name: 'job', exact: true }).click();
  await page.getByRole('heading', { level: 1, name: 'Job' }).waitFor();
  await page.getByRole('region', { name: 'Stages' }).getByText('running').first().waitFor();
  await whole('job');
  await go('#/workers');
  await row('worker-2').waitFor();
  await whole('workers');
  expect(said).toEqual([]);
});

test('a stream is paused and resumed', async () => {
  await go('#/streams/listens');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click();
  await page.getByText('paused', { exact: true }).first().waitFor();
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByText('running', { exact: true }).first().waitFor();
  await go('#/');
  expect(said).toEqual([]);
});

test('a master that is killed is said to be gone, found again, and shows the history', async () => {
  await row('finished nightly').waitFor();
  await cluster.killMaster();
  await page.getByText('Master unreachable').waitFor({ timeout: 10_000 });
  // What was known stays to be looked at.
  await row('finished nightly').waitFor();
  await whole('unreachable');
  await cluster.startMaster();
  await page.getByText('Connected again: the master was restarted').waitFor({ timeout: 20_000 });
  await page.getByText('live', { exact: true }).waitFor();
  expect(await page.getByText('Master unreachable').count()).toBe(0);
  await row('finished nightly').getByText('succeeded').waitFor();
  await row(HOSTILE).getByText('failed', { exact: true }).waitFor();
  await row('running for long').first().waitFor();
  await row('listens').getByText('running').waitFor({ timeout: 30_000 });
  await until('both workers are back', async () => {
    return (await page.locator('dt', { hasText: 'Workers' }).locator('xpath=..').innerText()).includes('2');
  });
  await whole('restarted');
  expect(said.filter((one) => !isOfTheNetwork(one))).toEqual([]);
});

test('a master that is frozen keeps its connections, and is said to be gone all the same', async () => {
  cluster.signalMaster('SIGSTOP');
  await page.getByText('Master unreachable').waitFor({ timeout: 15_000 });
  cluster.signalMaster('SIGCONT');
  await page.getByText('live', { exact: true }).waitFor({ timeout: 20_000 });
  await row('running for long').first().waitFor();
  expect(said.filter((one) => !isOfTheNetwork(one))).toEqual([]);
});

test('what runs is cancelled from the page', async () => {
  await page.getByRole('link', { name: 'running for long' }).first().click();
  await page.getByRole('button', { name: 'Cancel application' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel application' }).click();
  await page.locator('.head').getByText('cancelled', { exact: true }).first().waitFor();
  expect(said.filter((one) => !isOfTheNetwork(one))).toEqual([]);
});
