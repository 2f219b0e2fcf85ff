import { expect, test } from 'vitest';

import { applicationsLink, link, parse } from './route';

test('a link leads to what it names, whatever the name', () => {
  for (const id of ['plain', '../../etc', 'a/b?c#d', '<b>%', 'ü 1', '%']) {
    expect(parse(link('streams', id))).toEqual({ page: 'stream', id });
  }
});

test('filters survive in the link', () => {
  const route = parse(applicationsLink('failed', 'a&b=c #'));
  expect(route).toEqual({ page: 'applications', state: 'failed', name: 'a&b=c #' });
  expect(applicationsLink('', '')).toBe('#/applications');
});

test.each(['', '#', '#/'])('%s is the overview', (fragment) => {
  expect(parse(fragment)).toEqual({ page: 'overview' });
});

test.each(['#/none', '#/jobs', '#/jobs/a/b', '#/none/a', '#/constructor'])('%s is no page', (fragment) => {
  expect(parse(fragment)).toEqual({ page: 'unknown' });
});

test('an escape that is none is taken as it is', () => {
  expect(parse('#/jobs/%zz')).toEqual({ page: 'job', id: '%zz' });
});
