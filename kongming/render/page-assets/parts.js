// Elements that are drawn in more than one place.  Text goes in as text.

/** An element; of its properties `class`, `data` and `aria` are attributes. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'class') element.className = value;
    else if (key === 'on') {
      for (const [type, call] of Object.entries(value)) {
        element.addEventListener(type, call);
      }
    } else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

/** Somebody's name: isolated from the text around it. */
const named = text => make('bdi', {}, text || '(no name)');
const count = number => number.toLocaleString('en');
const plural = (number, one, many = `${one}s`) =>
  `${count(number)} ${number === 1 ? one : many}`;

function memory(mib) {
  return mib >= 10240 || (mib >= 1024 && mib % 1024 === 0) ?
    `${count(Math.round(mib / 1024))} GiB` : `${count(mib)} MiB`;
}

function moment(seconds) {
  return seconds === null ? 'unknown' :
    `${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

function facts(rows) {
  return make('dl', {class: 'facts'}, ...rows.filter(row => row).flatMap(
      ([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
}

/** A number that stands above a page. */
function sumBox(name, number, colour, alarm) {
  const box = make('div', {class: alarm ? 'alarm' : ''},
      make('dt', {}, name), make('dd', {}, count(number)));
  if (colour || alarm) box.style.setProperty('--of', `var(--${colour ?? 'alarm'})`);
  return box;
}

function showDoubts(element, doubts) {
  if (!doubts.length) return;
  element.hidden = false;
  element.append(make('ul', {}, ...doubts.map(doubt => make('li', {}, doubt))));
}

/** What the colours of pCPUs are. */
function legend() {
  return [['owned', 'owned'], ['stranded', 'free, but stranded'],
    ['free', 'free'], ['shared', 'shared'], ['unknown', 'taken; the owner is not known'],
    ['offline', 'offline']].map(([kind, text]) =>
    make('li', {}, make('i', {class: kind}), text));
}

/** Owned, stranded, free and shared pCPUs of something. */
function bar(sums) {
  const parts = [['owned', sums.owned], ['stranded', sums.stranded],
    ['free', sums.free - sums.stranded], ['shared', sums.shared]];
  const total = parts.reduce((sum, part) => sum + part[1], 0);
  const element = make('div', {class: 'bar', role: 'img',
    'aria-label': parts.filter(part => part[1]).map(
        ([name, number]) => `${number} ${name}`).join(', ')});
  for (const [name, number] of parts) {
    if (!number) continue;
    const part = make('i', {class: name});
    part.style.width = `${100 * number / total}%`;
    element.append(part);
  }
  return element;
}

function words(host) {
  const {dedicated, free, stranded, owned} = host.sums;
  const drifted = host.drifted.length;
  return `${free} of ${dedicated} dedicated pCPUs free, ${stranded} of them ` +
    `stranded, ${owned} owned; ${plural(host.servers.length, 'server')}` +
    (drifted ? `; ${drifted} with drift` : '') +
    (host.conflicts.length ? `; ${plural(host.conflicts.length, 'conflict')}` : '') +
    (host.obeys === false ? '; does not obey templates' : '');
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The golden angle keeps neighbours apart, however many; none is green, as
    what is free is. */
function hueOf(number) {
  const hue = Math.round(number * 0.381966 * 280 % 280);
  return hue < 80 ? hue : hue + 80;
}

/** Letters and colours of a host's servers, in their order. */
class Owners {
  constructor(host) {
    this.marks = new Map();
    this.of = new Map();
    for (const server of host.servers) {
      const pcpus = server.pcpus;
      if (!pcpus.length) continue;
      const number = this.marks.size;
      this.marks.set(server, {
        letter: LETTERS[number] ?? `${number + 1}`,
        hue: hueOf(number)});
      for (const pcpu of pcpus) {
        if (!this.of.has(pcpu)) this.of.set(pcpu, []);
        this.of.get(pcpu).push(server);
      }
    }
  }

  /** The letter of a server, in its colour. */
  letter(server) {
    const mark = this.marks.get(server);
    if (!mark) return make('span', {class: 'letter'}, '~');
    const element = make('span', {class: 'letter mine'}, mark.letter);
    element.style.setProperty('--hue', mark.hue);
    return element;
  }
}

/** What a pCPU is: [class, letter, words, owner]. */
function pcpuOf(pcpu, node, owners) {
  const mine = owners.of.get(pcpu) ?? [];
  if (mine.length > 1) {
    return ['twice', '!', `owned by ${mine.map(one => one.name).join(' and by ')}`,
      mine[0]];
  }
  if (mine.length) {
    return ['mine', owners.marks.get(mine[0]).letter, `owned by ${mine[0].name}`,
      mine[0]];
  }
  if (node.taken.has(pcpu)) return ['unknown', '#', 'taken; the owner is not known'];
  if (node.offline.has(pcpu)) return ['offline', '-', 'offline'];
  if (node.shared.has(pcpu)) return ['shared', '~', 'shared'];
  if (node.stranded.has(pcpu)) return ['stranded', '.', 'free, but stranded'];
  return ['free', '.', 'free'];
}

/** The cores of a node, each a box with its pCPUs one below the other. */
function coresOf(node, owners, open) {
  const cores = [...node.cores, ...[...node.offline].map(pcpu => [pcpu])];
  const group = make('div', {
    class: cores.length > 24 ? 'cores wide' : 'cores', role: 'group',
    'aria-label': `Cores of node ${node.id}; arrow keys go from pCPU to pCPU`});
  cores.forEach((core, column) => {
    group.append(make('div', {class: 'core'}, ...core.map((pcpu, row) => {
      const [kind, letter, text, owner] = pcpuOf(pcpu, node, owners);
      const element = make('button', {
        type: 'button', class: `pcpu ${kind}`,
        tabIndex: column || row ? -1 : 0, title: `pCPU ${pcpu}: ${text}`,
        'aria-label': `pCPU ${pcpu}: ${text}`},
      make('span', {}, `${pcpu}`), make('b', {'aria-hidden': 'true'}, letter));
      element.pcpu = pcpu;
      if (owner) {
        element.owner = owner;
        element.style.setProperty('--hue', owners.marks.get(owner).hue);
        element.addEventListener('click', () => open(owner));
      }
      return element;
    })));
  });
  group.addEventListener('keydown', event => {
    const all = [...group.querySelectorAll('.pcpu')];
    const next = neighbour(all, all.indexOf(document.activeElement), event.key);
    if (next === null) return;
    event.preventDefault();
    document.activeElement.tabIndex = -1;
    all[next].tabIndex = 0;
    all[next].focus();
  });
  return group;
}

/** Which of elements that flow in lines a key goes to; null: it is another key. */
function neighbour(all, at, key) {
  if (at < 0) return null;
  const sideways = {ArrowLeft: -1, ArrowRight: 1}[key];
  const lines = {ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10}[key];
  if (key === 'Home') return 0;
  if (key === 'End') return all.length - 1;
  if (!sideways && !lines) return null;
  const boxes = all.map(one => one.getBoundingClientRect());
  if (sideways) {
    // As they are read: a core's pCPUs stand one below the other.
    const read = all.map((one, number) => number).sort((a, b) =>
      Math.round(boxes[a].top) - Math.round(boxes[b].top) ||
      boxes[a].left - boxes[b].left);
    return read[read.indexOf(at) + sideways] ?? at;
  }
  // The nearest one in the line above or below, of those that are there.
  const tops = [...new Set(boxes.map(box => Math.round(box.top)))].sort(
      (a, b) => a - b);
  const line = tops.indexOf(Math.round(boxes[at].top)) + lines;
  const top = tops[Math.min(tops.length - 1, Math.max(0, line))];
  let best = at, distance = Infinity;
  boxes.forEach((box, number) => {
    const far = Math.abs(box.left - boxes[at].left);
    if (Math.round(box.top) === top && far < distance) {
      best = number;
      distance = far;
    }
  });
  return best;
}
