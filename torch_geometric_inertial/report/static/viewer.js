'use strict';
// One molecule in three dimensions, by 3Dmol.js. A molecule has elem [N], pos [N][3] (Å, in its inertial frame), bonds
// [[u, v, order]], charges {atom: charge}, bad: atoms to be marked.
class MoleculeView {
  constructor(element, palette, background) {
    this.palette = palette;
    this.viewer = $3Dmol.createViewer(element, {backgroundColor: background, antialias: true, cartoonQuality: 1});
    this.viewer.setViewStyle({style: 'outline', width: 0.012, color: '#49525e'});
    this.colors = {};
    for (const [symbol, one] of Object.entries(palette)) this.colors[symbol] = lighter(one.color);  // the lamps of 3Dmol.js are dim
  }

  atoms(molecule) {
    const atoms = molecule.elem.map((elem, i) => ({
      elem, x: molecule.pos[i][0], y: molecule.pos[i][1], z: molecule.pos[i][2], serial: i, index: i, bonds: [], bondOrder: [],
    }));
    for (const [u, v, order] of molecule.bonds) {
      atoms[u].bonds.push(v); atoms[u].bondOrder.push(order);
      atoms[v].bonds.push(u); atoms[v].bondOrder.push(order);
    }
    return atoms;
  }

  style(name) {
    const colorscheme = {prop: 'elem', map: this.colors};
    if (name === 'fill') return {sphere: {colorscheme}};
    if (name === 'stick') return {stick: {radius: 0.16, doubleBondScaling: 0.6, tripleBondScaling: 0.5, colorscheme}};
    return {stick: {radius: 0.125, doubleBondScaling: 0.8, tripleBondScaling: 0.6, colorscheme}, sphere: {scale: 0.23, colorscheme}};
  }

  show(molecule, {style = 'ball', axes = false, labels = false, keep = false} = {}) {
    const viewer = this.viewer, view = keep ? viewer.getView() : null;
    viewer.removeAllModels(); viewer.removeAllShapes(); viewer.removeAllLabels();
    if (molecule && molecule.elem) {
      const model = viewer.addModel();
      model.addAtoms(this.atoms(molecule));
      model.setStyle({}, this.style(style));
      for (const i of molecule.bad || []) {
        const [x, y, z] = molecule.pos[i];
        viewer.addSphere({center: {x, y, z}, radius: 0.6, color: '#ff2a1f', opacity: 0.4});
      }
      molecule.elem.forEach((elem, i) => {
        const charge = molecule.charges[i];
        if (!labels && !charge) return;
        const sign = charge ? (Math.abs(charge) > 1 ? Math.abs(charge) : '') + (charge > 0 ? '+' : '−') : '';
        const [x, y, z] = molecule.pos[i];
        viewer.addLabel(labels ? `${elem}${i + 1}${sign}` : sign, {position: {x, y, z}, fontSize: 12, fontColor: '#1f2630',
          backgroundColor: 'white', backgroundOpacity: 0.7, inFront: true, alignment: 'center', padding: 1});
      });
      if (axes) this.frame(molecule);
    }
    if (view) viewer.setView(view);
    else { viewer.setView([0, 0, 0, 0, -0.17, 0.17, 0, 0.97]); viewer.zoomTo(); viewer.zoom(axes ? 0.8 : 1.0); }
    viewer.render();
  }

  // The three axes of the inertial frame, from its center: x has the smallest moment.
  frame(molecule) {
    ['x', 'y', 'z'].forEach((name, k) => {
      const reach = Math.max(...molecule.pos.map(p => Math.abs(p[k]))) + 1.2, end = {x: 0, y: 0, z: 0};
      end[name] = reach;
      const beyond = {...end, [name]: reach + 0.3};
      this.viewer.addArrow({start: {x: 0, y: 0, z: 0}, end, radius: 0.06, radiusRatio: 2.6, mid: 1 - 0.35 / reach, color: ['#d03a3a', '#2f9e4f', '#2f6fde'][k]});
      this.viewer.addLabel(name, {position: beyond, fontSize: 15, bold: true, fontColor: ['#d03a3a', '#2f9e4f', '#2f6fde'][k], backgroundColor: 'white', backgroundOpacity: 0.6, padding: 1, alignment: 'center', inFront: true});
    });
  }
}

const lighter = color => '#' + [1, 3, 5].map(k => Math.round(0.82 * parseInt(color.slice(k, k + 2), 16) + 0.18 * 255).toString(16).padStart(2, '0')).join('');

// A small picture of a molecule, turned by a quaternion, drawn from back to front.
function drawSmall(canvas, molecule, palette, [qx, qy, qz, qw]) {
  const size = canvas.clientWidth * (window.devicePixelRatio || 1);
  if (canvas.width !== Math.round(size)) canvas.width = canvas.height = Math.round(size);
  const pen = canvas.getContext('2d'), turned = molecule.pos.map(([x, y, z]) => {
    const tx = 2 * (qy * z - qz * y), ty = 2 * (qz * x - qx * z), tz = 2 * (qx * y - qy * x);
    return [x + qw * tx + qy * tz - qz * ty, y + qw * ty + qz * tx - qx * tz, z + qw * tz + qx * ty - qy * tx];
  });
  const far = Math.max(...molecule.pos.map(p => Math.hypot(...p))) + 0.7, scale = size / 2 / Math.max(far, 2.2);
  const at = ([x, y]) => [size / 2 + x * scale, size / 2 - y * scale];
  const radius = i => (0.17 + 0.3 * palette[molecule.elem[i]].radius) * scale;
  const parts = turned.map((p, i) => ({depth: p[2], draw() {
    const [x, y] = at(p), r = radius(i), shade = pen.createRadialGradient(x - r * 0.35, y - r * 0.4, r * 0.1, x, y, r);
    shade.addColorStop(0, '#ffffff'); shade.addColorStop(0.35, palette[molecule.elem[i]].color); shade.addColorStop(1, palette[molecule.elem[i]].color);
    pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.fillStyle = shade; pen.fill();
    pen.lineWidth = Math.max(1, size / 220); pen.strokeStyle = 'rgba(50,58,70,.55)'; pen.stroke();
    if ((molecule.bad || []).includes(i)) { pen.beginPath(); pen.arc(x, y, r * 1.35, 0, 7); pen.lineWidth = size / 70; pen.strokeStyle = 'rgba(229,56,47,.75)'; pen.stroke(); }
  }}));
  for (const [u, v, order] of molecule.bonds) {
    parts.push({depth: Math.min(turned[u][2], turned[v][2]) + 0.01, draw() {
      const [a, b] = [[u, v], [v, u]].map(([from, to]) => {  // from surface to surface
        const way = turned[to].map((x, k) => x - turned[from][k]), share = 0.85 * radius(from) / scale / (Math.hypot(...way) || 1);
        return at(turned[from].map((x, k) => x + share * way[k]));
      });
      const [ax, ay] = a, [bx, by] = b, length = Math.hypot(bx - ax, by - ay) || 1;
      for (let k = 0; k < order; k++) {
        const off = (k - (order - 1) / 2) * scale * (order === 3 ? 0.2 : 0.26), dx = -(by - ay) / length * off, dy = (bx - ax) / length * off;
        pen.beginPath(); pen.moveTo(ax + dx, ay + dy); pen.lineTo(bx + dx, by + dy);
        pen.lineWidth = scale * (order === 1 ? 0.15 : 0.09); pen.strokeStyle = '#8b95a1'; pen.stroke();
      }
    }});
  }
  pen.clearRect(0, 0, size, size);
  parts.sort((a, b) => a.depth - b.depth).forEach(part => part.draw());
}
