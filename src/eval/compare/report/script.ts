/** What the report does in a browser: the theme's button, and the map of kept tokens, drawn from embedded data. */
export const SCRIPT = `
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const data = JSON.parse(document.getElementById('data').textContent);
  const canvas = document.getElementById('map');
  const choice = document.getElementById('recipe');
  const under = document.getElementById('under');
  let at = null;
  const rowOf = () => data.maps[choice.selectedIndex];
  function draw() {
    const map = rowOf();
    const lines = map.flat();
    canvas.width = data.bins.length;
    canvas.height = lines.length;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const style = getComputedStyle(root);
    const rgb = name => {
      const hex = style.getPropertyValue(name).trim();
      return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
    };
    const [paper, ink] = [rgb('--sheet'), rgb('--mead')];
    const image = context.createImageData(canvas.width, canvas.height);
    lines.forEach((line, y) => {
      for (let x = 0; x < canvas.width; x++) {
        const share = parseInt(line.slice(2 * x, 2 * x + 2), 16) / 255;
        const to = 4 * (y * canvas.width + x);
        for (let c = 0; c < 3; c++) image.data[to + c] = paper[c] + share * (ink[c] - paper[c]);
        image.data[to + 3] = 255;
      }
    });
    context.putImageData(image, 0, 0);
    tell();
  }
  function tell() {
    if (!at) { under.textContent = 'Point at a place, or move with the arrow keys, to read what stands there.'; return; }
    const map = rowOf();
    const heads = map[0].length;
    const layer = Math.floor(at.y / heads), head = at.y % heads;
    const share = parseInt(map[layer][head].slice(2 * at.x, 2 * at.x + 2), 16) / 255;
    under.textContent = 'layer ' + layer + ', KV head ' + head + ' keeps ' + Math.round(100 * share) + ' % of “' + data.bins[at.x].trim() + '”';
  }
  function move(x, y) {
    const lines = rowOf().flat().length;
    at = { x: Math.max(0, Math.min(data.bins.length - 1, x)), y: Math.max(0, Math.min(lines - 1, y)) };
    tell();
  }
  if (canvas) {
    canvas.addEventListener('pointermove', event => {
      const box = canvas.getBoundingClientRect();
      move(Math.floor((event.clientX - box.left) / box.width * canvas.width), Math.floor((event.clientY - box.top) / box.height * canvas.height));
    });
    canvas.addEventListener('keydown', event => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      move((at?.x ?? 0) + step[0], (at?.y ?? 0) + step[1]);
    });
    choice.addEventListener('change', draw);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
    draw();
  }
  document.getElementById('theme').addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    if (canvas) draw();
  });
})();
`;
