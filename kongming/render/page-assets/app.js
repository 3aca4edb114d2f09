// The page: hosts at a glance, what is chosen of them, and the keyboard.

/** Where the slider is among the live changes; their number: now. */
class Past {
  constructor(cloud) {
    this.known = cloud.hasHistory;
    this.changes = cloud.changes;
    this.at = this.changes.length;
  }

  get change() {
    return this.changes[this.at] ?? null;
  }

  /** Whether a server or host was changed after the moment that is chosen. */
  since(one) {
    if (this.change === null) return false;
    const newest = one.changes ?
      Math.max(0, ...one.changes.map(change => change.moment)) : one.changed;
    return newest > this.change.moment;
  }
}

class Page {
  constructor(cloud) {
    this.cloud = cloud;
    this.past = new Past(cloud);
    this.open = this.open.bind(this);
    for (const element of document.querySelectorAll('[id]')) {
      this[`$${element.id}`] = element;
    }
    this.items = new Map(); // host -> its element
    this.chosen = null;
    // Only what is seen is drawn.
    this.seen = new IntersectionObserver(entries => {
      for (const entry of entries) {
        if (entry.isIntersecting) this.paint(entry.target);
      }
    }, {rootMargin: '200px'});
    this.head();
    this.controls();
    this.history();
    this.list();
    const first = this.fromAddress() ?? this.listed[0];
    if (first) this.open(first, false);
    else this.$detail.append(make('p', {class: 'dim'}, 'No host is published.'));
  }

  // What stands above.

  head() {
    const {cloud} = this;
    this.$cloud.textContent = cloud.name;
    this.$moment.textContent = `as of ${moment(cloud.moment)}`;
    const drifted = cloud.servers.filter(server => server.drift.length).length;
    const conflicts = cloud.hosts.reduce((sum, host) => sum + host.conflicts.length, 0);
    const {dedicated, free, stranded, owned, shared, offline} = cloud.sums;
    for (const [name, number, colour, alarm] of [
      ['Hosts', cloud.hosts.length], ['Servers', cloud.servers.length],
      ['Dedicated', dedicated], ['Owned', owned, 'owned'],
      ['Free', free, 'free'], ['Stranded', stranded, 'stranded'],
      ['Shared', shared, 'shared'], ['Offline', offline],
      ['Drift', drifted, null, drifted], ['Conflicts', conflicts, null, conflicts],
      ['Leftovers', cloud.leftovers.length, null, cloud.leftovers.length]]) {
      this.$sums.append(sumBox(name, number, colour, alarm));
    }
    showDoubts(this.$doubts, cloud.doubts);
    this.$legend.append(...legend(), make('li', {}, make('span', {class: 'mark'}, '!'),
        'drift or a conflict'));
    if (cloud.leftovers.length) {
      this.$left.hidden = false;
      this.$leftovers.append(...cloud.leftovers.slice(0, 500).map(([name, why]) =>
        make('li', {}, named(name), `: ${why}`)));
      if (cloud.leftovers.length > 500) {
        this.$leftovers.append(make('li', {}, `and ${count(cloud.leftovers.length - 500)} more`));
      }
    }
  }

  // Hosts.

  list() {
    const text = this.$search.value.trim();
    const result = text ? this.cloud.search(text) : null;
    const keep = {
      all: () => true, marked: host => host.isMarked,
      stranded: host => host.sums.stranded > 0,
      full: host => host.sums.dedicated > 0 && host.sums.free === 0,
      empty: host => host.servers.length === 0,
      deaf: host => !host.obeys}[this.$show.value];
    this.listed = this.cloud.hosts.filter(
        host => keep(host) && (!result || result.hosts.has(host)));
    const order = this.$order.value;
    if (order !== 'name') {
      this.listed.sort((a, b) => b.sums[order] - a.sums[order]);
    }
    const look = this.$look.value;
    this.cards = look === 'cards' || (look === 'auto' && this.listed.length <= 48);
    this.$hosts.classList.toggle('cards', this.cards);
    this.seen.disconnect();
    this.$hosts.replaceChildren(...this.listed.map(host => this.item(host)));
    for (const item of this.$hosts.children) this.seen.observe(item);
    this.$shown.textContent =
      `${count(this.listed.length)} of ${plural(this.cloud.hosts.length, 'host')}` +
      (result ? `, ${plural(result.servers.length, 'server')} found` : '');
    this.found(result);
    this.stop();
  }

  item(host) {
    let item = this.items.get(host);
    if (!item) {
      item = make('li', {role: 'option', id: `host-${host.number}`, tabIndex: -1,
        'aria-label': `${host.name}: ${words(host)}`,
        class: host.isMarked ? 'marked' : ''});
      item.host = host;
      this.items.set(host, item);
    }
    item.setAttribute('aria-selected', String(host === this.chosenHost));
    return item;
  }

  /** The one element of the list that the Tab key stops at. */
  stop() {
    for (const item of this.$hosts.querySelectorAll('[tabindex="0"]')) item.tabIndex = -1;
    const item = this.listed.includes(this.chosenHost) ?
      this.items.get(this.chosenHost) : this.$hosts.firstElementChild;
    if (item) item.tabIndex = 0;
  }

  paint(item) {
    const {host} = item;
    const look = this.cards ? 'card' : 'tile';
    if (item.look === look) return;
    item.look = look;
    const {dedicated, free, stranded, owned} = host.sums;
    item.title = `${host.name}: ${words(host)}`;
    if (!this.cards) {
      const parts = dedicated ? [['fill stranded', owned + stranded], ['fill', owned]] :
        [['fill none', 1]];
      item.replaceChildren(...parts.map(([kind, number]) => {
        const part = make('i', {class: kind});
        part.style.height = `${100 * number / (dedicated || 1)}%`;
        return part;
      }));
      return;
    }
    item.classList.toggle('tall', host.nodes.length > 2);
    item.replaceChildren(
        make('div', {class: 'head'}, named(host.name)),
        ...host.nodes.map(node => bar(node.sums)),
        make('p', {}, `${owned} owned, ${free} free` +
          (stranded ? `, ${stranded} stranded` : '')),
        make('p', {}, plural(host.servers.length, 'server') +
          (host.drifted.length ? `, ${host.drifted.length} with drift` : '') +
          (host.conflicts.length ? `, ${plural(host.conflicts.length, 'conflict')}` : '')));
  }

  found(result) {
    this.$found.hidden = !result || !result.servers.length;
    if (this.$found.hidden) return;
    const most = 50;
    this.$found.replaceChildren(make('ul', {}, ...result.servers.slice(0, most).map(
        server => make('li', {}, make('button', {type: 'button', class: 'link',
          on: {click: () => this.open(server)}}, named(server.name)),
        make('span', {class: 'dim'}, ' on '), named(server.host.name),
        ...server.drift.length ? [' ', make('span', {class: 'pill bad'}, 'drift')] : []))),
    result.servers.length > most ?
      make('p', {class: 'dim'}, `and ${count(result.servers.length - most)} more`) : '');
  }

  // One of them.

  get chosenHost() {
    return this.chosen instanceof Server ? this.chosen.host : this.chosen;
  }

  open(one, focus = true) {
    const before = this.items.get(this.chosenHost);
    if (before) before.setAttribute('aria-selected', 'false');
    this.chosen = one;
    const item = this.items.get(this.chosenHost);
    if (item) item.setAttribute('aria-selected', 'true');
    this.stop();
    this.$detail.replaceChildren(one instanceof Server ?
      serverDetails(one, this.past, this.open) :
      hostDetails(one, this.past, this.open));
    this.$detail.scrollTop = 0;
    if (focus) this.$detail.querySelector('h2').focus();
    history.replaceState(null, '', one instanceof Server ?
      `#server=${encodeURIComponent(one.id)}` : `#host=${encodeURIComponent(one.name)}`);
  }

  fromAddress() {
    const [kind, text] = location.hash.slice(1).split('=');
    let key;
    try {
      key = decodeURIComponent(text ?? '');
    } catch {
      return null;
    }
    return (kind === 'server' ? this.cloud.servers.find(one => one.id === key) :
      kind === 'host' ? this.cloud.hosts.find(one => one.name === key) : null) ?? null;
  }

  // What was.

  history() {
    const {changes} = this.past;
    this.$past.hidden = !this.past.known;
    if (!this.past.known) return;
    this.$when.max = String(changes.length);
    this.$when.value = String(changes.length);
    this.$when.disabled = !changes.length;
    const bins = 120;
    const first = changes[0]?.moment ?? 0;
    const span = Math.max(1, (this.cloud.moment ?? changes.at(-1)?.moment ?? 1) - first);
    this.place = seconds => Math.min(1, (seconds - first) / span);
    const good = Array(bins).fill(0), bad = Array(bins).fill(0);
    for (const change of changes) {
      const bin = Math.min(bins - 1, Math.floor(bins * this.place(change.moment)));
      (change.failed ? bad : good)[bin]++;
    }
    const most = Math.max(1, ...good.map((number, at) => number + bad[at]));
    good.forEach((number, at) => {
      const part = make('i');
      part.style.height = `${100 * (number + bad[at]) / most}%`;
      // However few of many, they are seen.
      part.style.setProperty('--bad', bad[at] ?
        `max(3px, ${100 * bad[at] / (number + bad[at])}%)` : '0%');
      this.$times.append(part);
    });
    this.$times.append(make('b'));
    this.slide();
  }

  slide() {
    const {past} = this;
    past.at = Number(this.$when.value);
    const {change} = past;
    for (const [host, item] of this.items) {
      item.classList.toggle('since', past.since(host));
      item.classList.toggle('now', change !== null && change.server.host === host);
    }
    this.$times.lastChild.style.left = `${100 * (change ? this.place(change.moment) : 1)}%`;
    if (change === null) {
      this.$then.replaceChildren(past.changes.length ?
        `Now. ${plural(past.changes.length, 'live change')} before, ` +
        `${count(past.changes.filter(one => one.failed).length)} failed.` :
        'No live change is known.');
      this.$when.setAttribute('aria-valuetext', 'now');
    } else {
      const text = `${moment(change.moment)}: ${change.result}`;
      this.$when.setAttribute('aria-valuetext', `${text}, ${change.server.name}`);
      this.$then.replaceChildren(`${text}, `, make('button', {type: 'button',
        class: 'link', on: {click: () => this.open(change.server)}}, named(change.server.name)),
      ' on ', named(change.server.host.name),
      change.details ? `: ${change.details}` : '',
      `. ${plural(past.changes.length - past.at - 1, 'change')} later. ` +
      'Framed hosts were changed since; all is shown as it is now.');
    }
    if (this.chosen) this.open(this.chosen, false);
  }

  // The keyboard and the rest.

  controls() {
    let waiting = 0;
    this.$search.addEventListener('input', () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => this.list());
    });
    for (const control of [this.$show, this.$order, this.$look]) {
      control.addEventListener('change', () => this.list());
    }
    this.$when.addEventListener('input', () => this.slide());
    const hostAt = event => event.target.closest('#hosts > li')?.host;
    this.$hosts.addEventListener('click', event => {
      const host = hostAt(event);
      if (!host) return;
      this.items.get(host).focus();
      this.open(host, false);
    });
    this.$hosts.addEventListener('keydown', event => {
      const host = hostAt(event);
      if (!host) return;
      if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        this.open(host);
        return;
      }
      const all = [...this.$hosts.children];
      const next = neighbour(all, all.indexOf(this.items.get(host)), event.key);
      if (next === null) return;
      event.preventDefault();
      all[next].focus();
      this.open(all[next].host, false);
    });
    document.addEventListener('keydown', event => this.key(event));
    window.addEventListener('beforeprint', () => {
      this.before = this.$look.value;
      this.$look.value = 'cards';
      this.list();
      for (const item of this.$hosts.children) this.paint(item);
    });
    window.addEventListener('afterprint', () => {
      this.$look.value = this.before;
      this.list();
    });
    window.addEventListener('hashchange', () => {
      const one = this.fromAddress();
      if (one && one !== this.chosen) this.open(one);
    });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches('input[type=search], select');
    if (event.key === 'Escape') {
      if (this.$detail.contains(event.target)) {
        if (this.chosen instanceof Server) this.open(this.chosen.host);
        else this.items.get(this.chosenHost)?.focus();
      } else if (event.target === this.$search && this.$search.value) {
        this.$search.value = '';
        this.list();
      }
    } else if (!typing && event.key === '/') {
      event.preventDefault();
      this.$search.focus();
      this.$search.select();
    } else if (!typing && (event.key === '[' || event.key === ']') && this.past.known) {
      this.$when.value = String(this.past.at + (event.key === '[' ? -1 : 1));
      this.slide();
    }
  }
}

window.kongming = new Page(new Cloud(JSON.parse(
    document.getElementById('data').textContent)));
performance.mark('kongming-usable');
