// What is shown of one host, and of one server.

/** Have all that is a server's stand out while it is pointed at. */
function highlight(panel, server) {
  panel.classList.toggle('hot', server !== null);
  for (const element of panel.querySelectorAll('.pcpu')) {
    element.classList.toggle('is-hot',
        server !== null && element.owner === server);
  }
}

function alarms(lines, label) {
  return lines.length ? make('ul', {class: 'alarms', 'aria-label': label},
      ...lines.map(line => make('li', {}, line))) : null;
}

function hostDetails(host, past, open) {
  const owners = new Owners(host);
  const {dedicated, free, stranded, owned, shared, offline} = host.sums;
  const panel = make('div', {},
      make('h2', {tabIndex: -1}, named(host.name)),
      make('p', {},
          host.obeys === null ? null :
            make('span', {class: host.obeys ? 'pill' : 'pill bad'},
                host.obeys ? 'obeys templates' : 'does not obey templates'),
          host.live === 'act' ? null :
            make('span', {class: 'pill bad'}, `live changes: ${host.live}`),
          host.zones ? make('span', {class: 'pill'}, `time zones ${host.zones}`) : null),
      bar(host.sums),
      facts([
        ['Dedicated', `${dedicated}: ${owned} owned, ${free} free, ${stranded} of them stranded`],
        ['Shared', `${shared}`], offline ? ['Offline', `${offline}`] : null,
        ['Servers', `${host.servers.length}`],
        host.uuid ? ['Compute node', host.uuid] : null]),
      alarms([...host.conflicts, ...host.drifted.flatMap(server =>
        server.drift.map(line => `${server.name}: ${line}`))], 'Drift and conflicts'));
  for (const node of host.nodes) {
    const s = node.sums;
    panel.append(make('section', {class: 'node', 'aria-label': `Node ${node.id}`},
        make('h3', {}, `Node ${node.id}`),
        make('p', {class: 'dim'}, `${s.free} of ${s.dedicated} dedicated pCPUs free` +
          (s.stranded ? `, ${s.stranded} stranded` : '') +
          (host.hasMemory ? `; ${memory(node.memoryFree)} free` : '') +
          (node.floating ? `; ${plural(node.floating, 'vCPU floats', 'vCPUs float')} over ${s.shared} shared` : '')),
        coresOf(node, owners, open)));
  }
  panel.append(serversOf(host, owners, past, open, panel));
  return panel;
}

function serversOf(host, owners, past, open, panel) {
  if (!host.servers.length) {
    return make('p', {class: 'dim'}, 'No server is known to be here.');
  }
  const flavors = host.servers.some(server => server.flavor);
  const head = ['', 'Server', ...flavors ? ['Flavor'] : [], 'pCPUs', 'Memory by node'];
  return make('table', {},
      make('caption', {hidden: true}, 'Servers of this host'),
      make('thead', {}, make('tr', {}, ...head.map(
          text => make('th', {scope: 'col'}, text)))),
      make('tbody', {}, ...host.servers.map(server => make('tr', {on: {
        mouseenter: () => highlight(panel, server),
        mouseleave: () => highlight(panel, null),
        focusin: () => highlight(panel, server),
        focusout: () => highlight(panel, null)}},
      make('td', {}, owners.letter(server)),
      make('td', {}, make('button', {type: 'button', class: 'link',
        on: {click: () => open(server)}}, named(server.name)),
      ...server.drift.length ? [' ', make('span', {class: 'pill bad'}, 'drift')] : [],
      ...past.since(server) ? [' ', make('span', {class: 'pill past'}, 'changed since')] : []),
      flavors ? make('td', {}, named(server.flavor)) : null,
      make('td', {}, server.cells === null ? 'not known' :
        cpuRanges(server.pcpus) || 'floats'),
      make('td', {}, (server.cells ?? []).filter(cell => cell.memory).map(
          cell => `${cell.node}: ${memory(cell.memory)}`).join(', ') || '-')))));
}

function serverDetails(server, past, open) {
  const {host} = server;
  const owners = new Owners(host);
  const cells = server.cells;
  const panel = make('div', {},
      make('p', {class: 'back'}, make('button', {type: 'button', class: 'link',
        on: {click: () => open(host)}}, '\u2190 ', named(host.name))),
      make('h2', {tabIndex: -1}, owners.letter(server), ' ', named(server.name)),
      make('p', {}, past.since(server) ?
        make('span', {class: 'pill past'}, 'changed since; shown as it is now') : null,
      server.drift.length ? make('span', {class: 'pill bad'}, 'drift') : null),
      facts([['ID', server.id], ['Host', named(host.name)],
        // A host alone does not know what Nova does.
        ...server.flavor ? [['Project', server.project || '-'],
          ['Status', server.status || '-'], ['Flavor', named(server.flavor)],
          ['Template', server.hasTemplate ? 'yes' : 'none; a native server']] : [],
        server.hasTemplate && server.flavor ?
          ['Profile', server.profile ?? 'none is active'] : null]),
      alarms(server.drift, 'Drift'));
  if (cells === null) {
    panel.append(make('p', {class: 'dim'}, 'It is not known where its cells are.'));
  } else if (!cells.length) {
    panel.append(make('p', {class: 'dim'}, 'It has no NUMA topology: all of it floats.'));
  }
  (cells ?? []).forEach((cell, number) => {
    const node = host.nodes.find(one => one.id === cell.node);
    panel.append(make('section', {class: 'node', 'aria-label': `Cell ${number}`},
        make('h3', {}, `Cell ${number} on node ${cell.node}`),
        facts([
          ['Memory', !cell.memory ? 'bound to no node' : memory(cell.memory) + (cell.page ? `, pages of ${cell.page} KiB` : '')],
          ['vCPUs', [cell.pins.length ? `${cell.pins.length} own a pCPU` : '',
            cell.floating ? plural(cell.floating, 'floats', 'float') : ''].filter(Boolean).join(', ') || '-'],
          cell.more.length ? ['Kept idle', cpuRanges(cell.more)] : null]),
        cell.pins.length ? make('div', {class: 'pins', role: 'list',
          'aria-label': 'vCPUs and their pCPUs'}, ...cell.pins.map(([vcpu, pcpu]) =>
          make('span', {role: 'listitem'}, `${vcpu}\u2192${pcpu}`))) : null,
        node && host.hasMemory ? memoryBar(server, cell, node) : null,
        node ? coresOf(node, owners, open) : null));
  });
  highlight(panel, server);
  panel.append(...changesOf(server, past));
  return panel;
}

/** The memory of a node: this server's, that of others, what is free. */
function memoryBar(server, cell, node) {
  let others = 0;
  for (const one of server.host.servers) {
    for (const each of one === server ? [] : one.cells ?? []) {
      if (each.node === cell.node) others += each.memory;
    }
  }
  const parts = [['owned', cell.memory, 'of this cell'], ['shared', others, "others'"],
    ['free', node.memoryFree, 'free']];
  const total = parts.reduce((sum, part) => sum + part[1], 0) || 1;
  const text = `Memory of node ${node.id}: ` + parts.map(
      ([, mib, name]) => `${memory(mib)} ${name}`).join(', ');
  const element = make('div', {class: 'bar', role: 'img', title: text, 'aria-label': text});
  for (const [name, mib] of parts) {
    const part = make('i', {class: name});
    part.style.width = `${100 * mib / total}%`;
    element.append(part);
  }
  return element;
}

function changesOf(server, past) {
  if (!past.known) return [];
  return [make('h3', {}, 'Live changes'), server.changes.length ?
    make('table', {}, make('thead', {}, make('tr', {}, ...['Started', 'Result', 'Details'].map(
        text => make('th', {scope: 'col'}, text)))),
    make('tbody', {}, ...server.changes.slice(0, 100).map(change => make('tr', {},
        make('td', {}, moment(change.moment)),
        make('td', {}, change.result),
        make('td', {class: 'name'}, change.details || '-'))))) :
    make('p', {class: 'dim'}, 'None is known.')];
}
