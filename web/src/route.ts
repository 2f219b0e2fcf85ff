// Which page a link names. Links are fragments (`#/jobs/…`): they work behind any proxy path, and ids never
// reach a server's log as paths.

export type Route =
  | { page: 'overview' }
  | { page: 'applications'; state: string; name: string }
  | { page: 'application'; id: string }
  | { page: 'job'; id: string }
  | { page: 'workers' }
  | { page: 'worker'; id: string }
  | { page: 'streams' }
  | { page: 'stream'; id: string }
  | { page: 'unknown' };

export function parse(fragment: string): Route {
  const [path = '', query = ''] = fragment.replace(/^#?\/?/, '').split('?', 2);
  const segments = path.split('/').filter((segment) => segment !== '');
  const [page, id] = segments.map(decode);
  if (segments.length > 2) return { page: 'unknown' };
  if (id === undefined) {
    switch (page) {
      case undefined:
        return { page: 'overview' };
      case 'applications': {
        const filter = new URLSearchParams(query);
        return { page, state: filter.get('state') ?? '', name: filter.get('name') ?? '' };
      }
      case 'workers':
      case 'streams':
        return { page };
      default:
        return { page: 'unknown' };
    }
  }
  switch (page) {
    case 'applications':
      return { page: 'application', id };
    case 'jobs':
      return { page: 'job', id };
    case 'workers':
      return { page: 'worker', id };
    case 'streams':
      return { page: 'stream', id };
    default:
      return { page: 'unknown' };
  }
}

/** The link to a thing. */
export function link(page: 'applications' | 'jobs' | 'workers' | 'streams', id: string): string {
  return `#/${page}/${encodeURIComponent(id)}`;
}

/** The list of applications, filtered. */
export function applicationsLink(state: string, name: string): string {
  const filter = new URLSearchParams();
  if (state !== '') filter.set('state', state);
  if (name !== '') filter.set('name', name);
  const query = filter.toString();
  return query === '' ? '#/applications' : `#/applications?${query}`;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
