// Every page, narrow and wide, light and dark, in states that are hard to bring about for real.

import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import { complaints, launch, overflow, screenshot, SCHEMES, serious, SIZES, type Chromium } from './chromium';
import { HOSTILE, serve, TOKEN, type Fixture } from './fixture';

let browser: Chromium;
let fixture: Fixture;

beforeAll(async () => {
  browser = await launch();
  fixture = await serve({ signedIn: true });
});

afterEach(async () => {
  // A page that a failed test leaves open would hold one of the browser's six connections.
  for (const page of browser.context.pages().slice(2)) await page.close();
});

afterAll(async () => {
  await browser?.close();
  await fixture?.close();
});

const PAGES = [
  { name: 'overview', link: '#/', shows: 'need attention' },
  { name: 'applications', link: '#/applications', shows: 'dim_datetime' },
  { name: 'application-running', link: '#/applications/0199-0007-nightly', shows: "INSERT INTO fact_streams" },
  { name: 'application-failed', link: '#/applications/0199-0005-failed', shows: 'no column userid' },
  { name: 'job', link: '#/jobs/0199-0007-job-2', shows: 'task 2 has' },
  { name: 'workers', link: '#/workers', shows: 'No space left on device' },
  { name: 'worker', link: '#/workers/worker-3', shows: 'no heartbeat for 5 s' },
  { name: 'streams', link: '#/streams', shows: 'beatlytica' },
  { name: 'stream', link: '#/streams/beatlytica', shows: 'listen_events_dead' },
  { name: 'stream-failing', link: `#/streams/${encodeURIComponent(HOSTILE)}`, shows: 'connection refused' },
  { name: 'unknown', link: '#/nothing/here/at-all', shows: 'There is no such page' },
];

async function open(link: string, scheme: 'light' | 'dark', size: { width: number; height: number }): Promise<Page> {
  const page = await browser.context.newPage();
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
  await page.setViewportSize(size);
  await page.goto(fixture.url + link);
  return page;
}

for (const { name, link, shows } of PAGES) {
  test(`${name} is whole in every size and scheme`, async () => {
    for (const size of SIZES) {
      for (const scheme of SCHEMES) {
        const page = await browser.context.newPage();
        const said = complaints(page);
        await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
        await page.setViewportSize(size);
        await page.goto(fixture.url + link);
        await page.getByText(shows).first().waitFor();
        const at = `${name}, ${size.name}, ${scheme}`;
        expect(await page.locator('main img, main script').count(), at).toBe(0);
        expect(await overflow(page), at).toBeLessThanOrEqual(0);
        expect(await serious(page), at).toEqual([]);
        expect(said, at).toEqual([]);
        await screenshot(page, `fixture-${name}-${size.name}-${scheme}`);
        await page.close();
      }
    }
  });
}

test('script in names is shown as it is written', async () => {
  const page = await open('#/', 'light', SIZES[1]!);
  await page.getByText(HOSTILE, { exact: true }).first().waitFor();
  await page.goto(`${fixture.url}#/applications/0199-0005-failed`);
  await page.locator('h1', { hasText: HOSTILE }).waitFor();
  // The message, the source, the SQL.
  expect(await page.getByText(HOSTILE).count()).toBeGreaterThanOrEqual(4);
  await page.close();
});

test('a caret stands below the place that an error names', async () => {
  const page = await open('#/applications/0199-0005-failed', 'light', SIZES[1]!);
  const sql = page.locator('pre');
  await sql.waitFor();
  expect((await sql.innerText()).split('\n').slice(0, 2)).toEqual(['SELECT userid,', '       ^']);
  await page.close();
});

test('facts change what is shown, without asking again', async () => {
  const page = await open('#/applications/0199-0006-waiting', 'light', SIZES[1]!);
  await page.getByText('None has begun yet').waitFor();
  fixture.tell({ event: 'application_started', application: '0199-0006-waiting', statements: 2 });
  fixture.tell({
    event: 'statement_started',
    application: '0199-0006-waiting',
    statement: 1,
    sql: 'SELECT told',
  });
  await page.getByText('SELECT told').waitFor();
  fixture.tell({
    event: 'application_finished',
    application: '0199-0006-waiting',
    state: 'failed',
    failure: { kind: 'user', message: 'it was told', hint: 'look', line: 0, column: 0 },
    statement: 1,
  });
  await page.getByText('it was told').waitFor();
  await page.close();
});

test('filters narrow the list and stay in the link', async () => {
  const page = await open('#/applications', 'light', SIZES[1]!);
  await page.getByLabel('State').selectOption('cancelled');
  await page.getByText('1 shown').waitFor();
  await page.getByLabel('Name').fill('dim');
  await page.getByText('No application is like that').waitFor();
  expect(page.url()).toContain('#/applications?state=cancelled&name=dim');
  await page.close();
});

test('cancelling asks first, and a refusal is said', async () => {
  const page = await open('#/applications/0199-0007-nightly', 'light', SIZES[1]!);
  await page.getByRole('button', { name: 'Cancel application' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Keep it' }).click();
  expect(fixture.posted).toEqual([]);
  await page.getByRole('button', { name: 'Cancel application' }).click();
  expect(await serious(page)).toEqual([]);
  await screenshot(page, 'fixture-cancel-1280-light');
  await dialog.getByRole('button', { name: 'Cancel application' }).click();
  await page.getByText('cancelled', { exact: true }).first().waitFor();
  expect(fixture.posted).toEqual(['POST /api/v1/applications/0199-0007-nightly/cancel']);

  await page.goto(`${fixture.url}#/workers/worker-1`);
  await page.getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).click();
  await page.getByText('this needs the role admin').waitFor();
  await page.close();
});

test('all of it can be reached by keyboard', async () => {
  const page = await open('#/', 'light', SIZES[1]!);
  await page.getByText('need attention').first().waitFor();
  await page.keyboard.press('Tab');
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to content');
  await page.keyboard.press('Enter');
  expect(await page.evaluate('document.activeElement.tagName')).toBe('H1');
  await page.goto(`${fixture.url}#/applications`);
  await page.getByLabel('State').waitFor();
  // A new page is announced by its name.
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Applications');
  await page.close();
});

test('the scheme can be chosen, and is kept', async () => {
  const page = await open('#/', 'light', SIZES[1]!);
  const background = () => page.evaluate('getComputedStyle(document.body).backgroundColor');
  const button = page.getByRole('button', { name: /^Colours/ });
  await button.click();
  const light = await background();
  await button.click();
  expect(await background()).not.toBe(light);
  await page.reload();
  await page.getByText('need attention').first().waitFor();
  expect(await background()).not.toBe(light);
  await page.getByRole('button', { name: /^Colours/ }).click();
  await page.close();
});

test('whoever is not signed in is asked for a token', async () => {
  const closed = await serve({ signedIn: false });
  for (const size of SIZES) {
    for (const scheme of SCHEMES) {
      const page = await browser.context.newPage();
      const said = complaints(page);
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize(size);
      await page.goto(closed.url);
      await page.getByLabel('Token').fill('wrong');
      expect(said).toEqual([]);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByText('the token is not known here; ask an admin').waitFor();
      expect(await serious(page)).toEqual([]);
      expect(await overflow(page)).toBeLessThanOrEqual(0);
      await screenshot(page, `fixture-sign-in-${size.name}-${scheme}`);
      await page.getByLabel('Token').fill(TOKEN);
      await page.getByLabel('Token').press('Enter');
      await page.getByText('need attention').first().waitFor();
      // A session that ends under an open page leads back to the question, and shows nothing any more.
      closed.signOut();
      await page.getByLabel('Token').waitFor({ timeout: 15_000 });
      expect(await page.getByText('nightly facts').count()).toBe(0);
      await page.close();
    }
  }
  await closed.close();
});
