// A report of one host: who was on owned pCPUs, beside the host itself.

const MOST_ROWS = 1000;
const percent = (us, seconds) => us === null || !seconds ? '-' :
  `${(us / 1e4 / seconds).toFixed(2)}%`;
const noPast = {known: false, since: () => false};

class Report {
  constructor(cloud, found) {
    this.cloud = cloud;
    this.found = found;
    [this.host] = cloud.hosts;
    this.open = this.open.bind(this);
    for (const element of document.querySelectorAll('[id]')) {
      this[`$${element.id}`] = element;
    }
    this.owners = new Owners(this.host);
    this.entries = [...found.disturbances.map(entry => ({...entry, worst: true})),
      ...found.background.map(entry => ({...entry, worst: false}))];
    this.disturbed = new Map(); // pCPU -> how often
    for (const {pcpu, count: number} of found.disturbances) {
      this.disturbed.set(pcpu, (this.disturbed.get(pcpu) ?? 0) + number);
    }
    this.head();
    this.controls();
    this.list();
    this.open(this.host, false);
  }

  head() {
    const {cloud, found} = this;
    this.$cloud.textContent = cloud.name;
    this.$moment.textContent =
      `${found.seconds.toFixed(1)} s until ${moment(cloud.moment)}`;
    const disturbances = found.disturbances.length;
    this.$sums.append(...[
      ['Owned pCPUs', found.owned.length, 'owned'],
      ['Disturbed', this.disturbed.size, null, this.disturbed.size],
      ['Disturbances', disturbances, null, disturbances],
      ['Background', found.background.length],
      ['Domains', cloud.servers.length]].map(row => sumBox(...row)));
    showDoubts(this.$doubts, cloud.doubts);
    this.$legend.append(...legend(), make('li', {},
        make('i', {class: 'disturbed'}), 'disturbed'));
    for (const kind of [...new Set(this.entries.map(entry => entry.kind))].sort()) {
      this.$kind.append(make('option', {value: kind}, kind));
    }
  }

  ownerOf(entry) {
    const [server] = this.owners.of.get(entry.pcpu) ?? [];
    return [server ?? null, `${server?.name ?? entry.domain} ${entry.thread}`];
  }

  // What is searched for.

  list() {
    const words = this.$search.value.toLowerCase().split(/\s+/).filter(Boolean);
    // A number is that of a pCPU, a process or an interrupt, as a whole.
    const has = (each, ...texts) => {
      const text = [this.ownerOf(each)[1], ...texts].join('\n').toLowerCase();
      return words.every(word => /^\d+$/.test(word) ?
        [each.pcpu, each.pid, each.irq].includes(Number(word)) :
        text.includes(word));
    };
    const kind = this.$kind.value;
    const entries = this.entries.filter(entry =>
      (entry.worst || this.$background.checked) && (!kind || entry.kind === kind) &&
      has(entry, entry.kind, entry.name, entry.remedy));
    const owned = this.found.owned.filter(each => has(each));
    this.$entries.replaceChildren(entries.length ? this.entryTable(entries) :
      make('p', {class: 'dim'}, this.entries.length ? 'Nobody that is looked for.' :
        'Nobody else was on these pCPUs.'));
    this.$owned.replaceChildren(owned.length ? this.ownedTable(owned) :
      make('p', {class: 'dim'}, 'None that is looked for.'));
    this.$shown.textContent = `${plural(entries.length, 'disturbance')} and ` +
      `${plural(owned.length, 'owned pCPU')} of ${count(this.found.owned.length)}`;
  }

  table(head, rows, row) {
    const more = rows.length - MOST_ROWS;
    return make('div', {class: 'scroll'}, make('table', {},
        make('thead', {}, make('tr', {}, ...head.map(([text, kind]) =>
          make('th', {scope: 'col', class: kind ?? ''}, text)))),
        make('tbody', {}, ...rows.slice(0, MOST_ROWS).map(row))),
    more > 0 ? make('p', {class: 'dim'}, `and ${count(more)} more; a search narrows it`) : null);
  }

  pcpuCell(each) {
    const [server] = this.ownerOf(each);
    return make('td', {class: 'num'}, server ? make('button', {type: 'button',
      class: 'link', 'aria-label': `pCPU ${each.pcpu}, to its owner`,
      on: {click: () => this.open(server)}}, `${each.pcpu}`) : `${each.pcpu}`);
  }

  entryTable(entries) {
    return this.table([['pCPU', 'num'], ['Kind'], ['Name'], ['Count', 'num'],
      ['\u00b5s', 'num'], ['What would remove it']], entries, entry => {
      const number = entry.irq !== null ? ` (IRQ ${entry.irq})` :
        entry.pid !== null && entry.kind !== 'domain' ? ` (${entry.pid})` : '';
      return make('tr', {class: entry.worst ? '' : 'background'},
          this.pcpuCell(entry), make('td', {}, entry.kind),
          make('td', {}, named(entry.name), number),
          make('td', {class: 'num'}, `${entry.exact ? '' : '\u2264 '}${count(entry.count)}`),
          make('td', {class: 'num'}, entry.us === null ? 'not measured' :
            count(Math.round(entry.us))),
          make('td', {class: 'name'}, entry.remedy || '-'));
    });
  }

  ownedTable(owned) {
    const {seconds} = this.found;
    return this.table([['pCPU', 'num'], ['Owner'], ['Use', 'num'], ['Wait', 'num'],
      ['Switched out', 'num'], ['Disturbed', 'num']], owned, each =>
      make('tr', {}, this.pcpuCell(each),
          make('td', {}, named(this.ownerOf(each)[1])),
          make('td', {class: 'num'}, percent(each.run_us, seconds)),
          make('td', {class: 'num'}, percent(each.wait_us, seconds)),
          make('td', {class: 'num'}, each.involuntary_switches === null ? '-' :
            count(each.involuntary_switches)),
          make('td', {class: 'num'}, count(this.disturbed.get(each.pcpu) ?? 0))));
  }

  // The host, or one of its domains.

  open(one, focus = true) {
    this.chosen = one;
    const panel = one instanceof Server ? serverDetails(one, noPast, this.open) :
      hostDetails(one, noPast, this.open);
    for (const element of panel.querySelectorAll('.pcpu')) {
      const number = this.disturbed.get(element.pcpu);
      if (!number) continue;
      element.classList.add('disturbed');
      element.title += `; disturbed ${plural(number, 'time')}`;
      element.setAttribute('aria-label', element.title);
    }
    this.$detail.replaceChildren(panel);
    this.$detail.scrollTop = 0;
    if (focus) this.$detail.querySelector('h2').focus();
  }

  controls() {
    let waiting = 0;
    this.$search.addEventListener('input', () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => this.list());
    });
    for (const control of [this.$kind, this.$background]) {
      control.addEventListener('change', () => this.list());
    }
    document.addEventListener('keydown', event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === 'Escape' && event.target === this.$search) {
        this.$search.value = '';
        this.list();
      } else if (event.key === 'Escape' && this.chosen instanceof Server) {
        this.open(this.host);
      } else if (event.key === '/' && !event.target.matches('input[type=search], select')) {
        event.preventDefault();
        this.$search.focus();
        this.$search.select();
      }
    });
  }
}

{
  const content = JSON.parse(document.getElementById('data').textContent);
  window.kongming = new Report(new Cloud(content), content.report);
  performance.mark('kongming-usable');
}
