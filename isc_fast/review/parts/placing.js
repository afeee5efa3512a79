// The right picture laid over the left one where the pair's homography says. It maps places of the left picture to the right one,
// both in shares of width and height.
const mostAround = 1; // so many sizes of the left picture are shown around it at most, where the right one reaches beyond it
const longestSide = 900; // pixels of the canvas
const edgeColour = '#10b981';

/** A place through a homography of nine numbers; null where it lies beyond the horizon. */
function through(matrix, [x, y]) {
  const depth = matrix[6] * x + matrix[7] * y + matrix[8];
  if (depth <= 1e-9) return null;
  return [(matrix[0] * x + matrix[1] * y + matrix[2]) / depth, (matrix[3] * x + matrix[4] * y + matrix[5]) / depth];
}

function inverse([a, b, c, d, e, f, g, h, i]) {
  const minors = [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f, d * h - e * g, b * g - a * h, a * e - b * d];
  const volume = a * minors[0] + b * minors[3] + c * minors[6];
  return minors.map((minor) => minor / volume);
}

/** The corners of the right picture in the left one; null if one lies beyond the horizon. */
function cornersOf(matrix) {
  const back = inverse(matrix);
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map((corner) => through(back, corner));
  return corners.includes(null) ? null : corners;
}

/** What the canvas shows, in shares of the left picture: all of it, and the right one as far as it is near. */
function frameOf(corners) {
  const reach = (axis) => {
    const values = corners ? corners.map((corner) => corner[axis]) : [];
    return [Math.max(-mostAround, Math.min(0, ...values)), Math.min(1 + mostAround, Math.max(1, ...values))];
  };
  const [[left, right], [top, bottom]] = [reach(0), reach(1)];
  return { left, top, width: right - left, height: bottom - top };
}

/** Pixels of an image, shrunk first where the warp would shrink it, so that none is left out. */
function pixelsOf(image, shrink) {
  const canvas = make('canvas');
  canvas.width = Math.max(1, Math.round(image.naturalWidth * shrink));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * shrink));
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

/** The right picture as it lies in the frame, on a canvas of the frame's pixels; nothing where it does not reach. */
function warped(image, matrix, frame, width, height) {
  const [x0, y0] = [frame.left + frame.width / 2, frame.top + frame.height / 2];
  const [here, right, below] = [[x0, y0], [x0 + 0.01, y0], [x0, y0 + 0.01]].map((place) => through(matrix, place));
  const area = here && right && below ? Math.abs((right[0] - here[0]) * (below[1] - here[1]) - (right[1] - here[1]) * (below[0] - here[0])) * 1e4 : 0;
  const pixelsOnto = (area * frame.width * frame.height * image.naturalWidth * image.naturalHeight) / (width * height);
  const from = pixelsOf(image, Math.min(1, 1 / Math.sqrt(pixelsOnto || 1)));
  const canvas = make('canvas');
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext('2d');
  const to = pen.createImageData(width, height);
  for (let row = 0; row < height; row += 1) {
    const y = frame.top + ((row + 0.5) / height) * frame.height;
    for (let column = 0; column < width; column += 1) {
      const place = through(matrix, [frame.left + ((column + 0.5) / width) * frame.width, y]);
      if (!place || place[0] < 0 || place[0] > 1 || place[1] < 0 || place[1] > 1) continue;
      const u = Math.min(Math.max(place[0] * from.width - 0.5, 0), from.width - 1);
      const v = Math.min(Math.max(place[1] * from.height - 0.5, 0), from.height - 1);
      const [i, j] = [Math.floor(u), Math.floor(v)];
      const [across, down] = [u - i, v - j];
      const [next, under] = [i + 1 < from.width ? 4 : 0, j + 1 < from.height ? from.width * 4 : 0];
      const at = (j * from.width + i) * 4;
      const put = (row * width + column) * 4;
      for (let colour = 0; colour < 3; colour += 1) {
        const one = at + colour;
        const above = from.data[one] * (1 - across) + from.data[one + next] * across;
        const beneath = from.data[one + under] * (1 - across) + from.data[one + under + next] * across;
        to.data[put + colour] = above * (1 - down) + beneath * down;
      }
      to.data[put + 3] = 255;
    }
  }
  pen.putImageData(to, 0, 0);
  return canvas;
}

let lastWarp = { pair: null }; // the slider draws the same pair again and again

/** Draw the right picture of a pair over the left one, with its edges; or what differs where both are. */
function drawPlaced(canvas, pair, one, other, mode, share) {
  const matrix = fact('homography', pair);
  const corners = cornersOf(matrix);
  const frame = frameOf(corners);
  const whole = [frame.width * one.naturalWidth, frame.height * one.naturalHeight];
  const scale = Math.min(1, longestSide / Math.max(...whole));
  [canvas.width, canvas.height] = whole.map((side) => Math.round(side * scale));
  if (lastWarp.pair !== pair) lastWarp = { pair, canvas: warped(other, matrix, frame, canvas.width, canvas.height) };
  const at = ([x, y]) => [((x - frame.left) / frame.width) * canvas.width, ((y - frame.top) / frame.height) * canvas.height];
  const [left, top] = at([0, 0]);
  const [right, bottom] = at([1, 1]);
  const pen = canvas.getContext('2d');
  pen.drawImage(one, left, top, right - left, bottom - top);
  if (mode === 'difference') {
    pen.globalCompositeOperation = 'difference';
    pen.drawImage(lastWarp.canvas, 0, 0);
    pen.globalCompositeOperation = 'destination-in'; // nothing differs where only one of them is
    pen.drawImage(lastWarp.canvas, 0, 0);
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.fill();
    pen.globalCompositeOperation = 'source-over';
  } else {
    pen.globalAlpha = 1 - share;
    pen.drawImage(lastWarp.canvas, 0, 0);
    pen.globalAlpha = 1;
  }
  if (!corners) return;
  pen.beginPath();
  for (const corner of corners) pen.lineTo(...at(corner));
  pen.closePath();
  pen.lineWidth = Math.max(2, canvas.width / 250);
  pen.strokeStyle = edgeColour;
  pen.stroke();
}
