'use strict';
// What page.py has written, as objects; nothing here draws.

/** @returns {number[]} of '0-3,8', in that order. */
function cpuList(text) {
  const found = [];
  for (const part of text ? text.split(',') : []) {
    const [first, last] = part.split('-').map(Number);
    for (let cpu = first; cpu <= (last ?? first); cpu++) found.push(cpu);
  }
  return found;
}

/** The inverse. */
function cpuRanges(cpus) {
  const runs = [];
  for (const cpu of [...new Set(cpus)].sort((a, b) => a - b)) {
    const run = runs.at(-1);
    if (run && cpu === run[1] + 1) run[1] = cpu;
    else runs.push([cpu, cpu]);
  }
  return runs.map(([a, b]) => a === b ? `${a}` : `${a}-${b}`).join(',');
}

const RESULTS = ['Success', 'Error', 'running'];
const SUMS = ['dedicated', 'free', 'stranded', 'owned', 'shared', 'offline'];

function sumsOf(rows) {
  const total = Object.fromEntries(SUMS.map(name => [name, 0]));
  for (const row of rows) SUMS.forEach((name, at) => { total[name] += row[at]; });
  return total;
}

class Server {
  constructor(row, cloud) {
    [this.id, this.name, this.hostNumber] = row;
    this.host = cloud.hosts[row[2]];
    [this.project, this.status, this.flavor] = row.slice(3, 6).map(
        at => cloud.words[at]);
    this.profile = row[6] === null ? null : cloud.words[row[6]];
    this.hasTemplate = row[7];
    this._cells = row[8];
    this.drift = row[9];
    this.changes = row[10].map(([moment, result, details]) => ({
      moment, failed: result === 1, result: RESULTS[result],
      details: cloud.words[details], server: this}));
  }

  /** null where Nova does not tell them. */
  get cells() {
    return this._cells && this._cells.map(
        ([node, memory, page, floating, flat, more]) => {
          const pins = [];
          for (let at = 0; at < flat.length; at += 2) {
            pins.push([flat[at], flat[at + 1]]);
          }
          return {node, memory, page, floating, pins, more: cpuList(more)};
        });
  }

  get pcpus() {
    return (this.cells ?? []).flatMap(
        cell => [...cell.pins.map(pin => pin[1]), ...cell.more]);
  }

  /** What a search looks through. */
  get text() {
    this._text ??= [this.name, this.id, this.flavor, this.project,
      this.profile ?? '', this.status].join('\n').toLowerCase();
    return this._text;
  }
}

class Host {
  constructor(row, number, cloud) {
    [this.name, this.uuid, this.obeys, this.live, this.zones, this._nodes,
      this.conflicts] = row;
    this.number = number;
    this._cloud = cloud;
    this.servers = [];
    this.sums = sumsOf(this._nodes.map(at => cloud.nodeRows[at][3]));
    this.changed = 0; // the newest change of its servers
  }

  get nodes() {
    return this._nodes.map(at => {
      const [layout, taken, stranded, sums, memoryFree, floating] =
          this._cloud.nodeRows[at];
      const [id, cores, dedicated, shared, offline] =
          this._cloud.layouts[layout];
      return {id, cores, memoryFree, floating, sums: sumsOf([sums]),
        dedicated: new Set(cpuList(dedicated)),
        shared: new Set(cpuList(shared)),
        offline: new Set(cpuList(offline)),
        taken: new Set(cpuList(taken)),
        stranded: new Set(cpuList(stranded))};
    });
  }

  /** Whether its memory is known, as that of a cloud is. */
  get hasMemory() {
    return this.obeys !== null;
  }

  get drifted() {
    return this.servers.filter(server => server.drift.length);
  }

  get isMarked() {
    return this.conflicts.length > 0 || this.drifted.length > 0;
  }

  get text() {
    this._text ??= `${this.name}\n${this.uuid}`.toLowerCase();
    return this._text;
  }
}

class Cloud {
  constructor(content) {
    Object.assign(this, {
      name: content.name, moment: content.moment, words: content.words,
      layouts: content.layouts, nodeRows: content.nodes,
      leftovers: content.leftovers, doubts: content.doubts,
      hasHistory: content.history});
    this.hosts = content.hosts.map(
        (row, number) => new Host(row, number, this));
    this.servers = content.servers.map(row => new Server(row, this));
    this.changes = [];
    for (const server of this.servers) {
      server.host.servers.push(server);
      for (const change of server.changes) {
        this.changes.push(change);
        server.host.changed = Math.max(server.host.changed, change.moment);
      }
    }
    this.changes.sort((a, b) => a.moment - b.moment);
    this.sums = sumsOf(this.hosts.map(
        host => SUMS.map(name => host.sums[name])));
  }

  /** @returns {{hosts: Set<Host>, servers: Server[]}} that have all words */
  search(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const has = one => words.every(word => one.text.includes(word));
    const servers = this.servers.filter(has);
    return {servers, hosts: new Set([
      ...this.hosts.filter(has), ...servers.map(server => server.host)])};
  }
}
