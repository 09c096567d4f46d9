/* Two trained recommenders, one event after another, in plain JavaScript: 2Mamba4Rec and SASRec as
   seqrec_lib/models/ defines them, on the weights that seqrec_lib/study/live_model.py writes. A browser loads this file
   as a script, Node as a module; a test compares its scores with PyTorch's.

   Symbols: d = d_model, V = items + 1 (id 0 is padding), N = d_state, P = headdim. A state is what a model keeps of the
   items it has read; `step` returns the state after one item more and leaves the given one as it was. */
"use strict";

(function (root) {
  const LAYER_NORM_EPS = 1e-12;
  const RMS_NORM_EPS = 1e-5;
  const BYTES = 4; // of a number of a state, which is kept in 32 bits

  /* Base64 of little-endian 16-bit floats -> Float32Array. */
  function halves(base64) {
    const text = atob(base64);
    const numbers = new Float32Array(text.length / 2);
    for (let i = 0; i < numbers.length; i++) {
      const bits = text.charCodeAt(2 * i) | (text.charCodeAt(2 * i + 1) << 8);
      const exponent = (bits >> 10) & 31;
      const fraction = bits & 1023;
      const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : (fraction / 1024) * 2 ** -14;
      numbers[i] = bits & 32768 ? -size : size;
    }
    return numbers;
  }

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const silu = (x) => x * sigmoid(x);
  const softplus = (x) => (x > 20 ? x : Math.log1p(Math.exp(x)));

  /* The error function, from the series of its positive terms: erf(x) = 2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1)/(2n+1)!! */
  function erf(x) {
    const far = Math.abs(x);
    if (far > 6) return Math.sign(x);
    let term = far;
    let sum = far;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * far * far) / (2 * n + 1);
      sum += term;
    }
    return (Math.sign(x) * 2 * Math.exp(-far * far) * sum) / Math.sqrt(Math.PI);
  }

  const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));

  /* W x + b for W (out, in), row by row. */
  function linear(weight, bias, x) {
    const out = new Float64Array(weight.length / x.length);
    for (let i = 0, at = 0; i < out.length; i++) {
      let sum = bias ? bias[i] : 0;
      for (let j = 0; j < x.length; j++) sum += weight[at++] * x[j];
      out[i] = sum;
    }
    return out;
  }

  function layerNorm(x, weight, bias) {
    let mean = 0;
    for (const value of x) mean += value / x.length;
    let variance = 0;
    for (const value of x) variance += (value - mean) ** 2 / x.length;
    const scale = 1 / Math.sqrt(variance + LAYER_NORM_EPS);
    return x.map((value, i) => (value - mean) * scale * weight[i] + bias[i]);
  }

  const plus = (x, y) => x.map((value, i) => value + y[i]);

  /* What both have: embedding, feed-forward network, scores h E^T, the repeat bias. */
  class Recommender {
    constructor({ settings, tensors, numbers }) {
      this.settings = settings; // d_model, n_layers, window, repeat_bias and the model's own
      this.weights = {};
      const all = halves(numbers);
      let at = 0;
      for (const [name, count] of tensors) this.weights[name] = all.subarray(at, (at += count));
      this.embedding = this.weights["item_embedding.weight"];
      this.items = this.embedding.length / settings.d_model - 1;
    }

    normed(name, x) {
      return layerNorm(x, this.weights[`${name}.weight`], this.weights[`${name}.bias`]);
    }

    projected(name, x) {
      return linear(this.weights[`${name}.weight`], this.weights[`${name}.bias`], x);
    }

    feedForward(layer, x) {
      return this.projected(`${layer}.feed_forward.w2`, this.projected(`${layer}.feed_forward.w1`, x).map(gelu));
    }

    embedded(item) {
      const d = this.settings.d_model;
      return Float64Array.from(this.embedding.subarray(item * d, (item + 1) * d));
    }

    /* The state after the latest items of a history that the model reads: its window. */
    read(history) {
      return history.slice(-this.settings.window).reduce((state, item) => this.step(state, item), this.start());
    }

    /* Scores of all items, V; the repeat bias is added to the items of the history unless it is switched off. */
    scores(state, history, biased) {
      const scores = linear(this.embedding, null, state.output);
      scores[0] = -Infinity;
      if (biased) for (const item of new Set(history)) scores[item] += this.settings.repeat_bias;
      return scores;
    }
  }

  class TwoMamba4Rec extends Recommender {
    constructor(file) {
      super(file);
      const s = this.settings;
      this.inner = s.expand * s.d_model;
      this.heads = this.inner / s.headdim;
      this.channels = this.inner + 2 * s.d_state; // of the convolution: x, B and C
    }

    start() {
      const layers = Array.from({ length: this.settings.n_layers }, () => ({
        conv: new Float32Array(this.channels * this.settings.d_conv),
        ssm: new Float32Array(this.inner * this.settings.d_state),
      }));
      return { length: 0, layers, output: null };
    }

    stateBytes() {
      const s = this.settings;
      return BYTES * s.n_layers * (this.channels * s.d_conv + this.inner * s.d_state);
    }

    step(state, item) {
      let x = this.normed("norm", this.embedded(item));
      const layers = state.layers.map((before, i) => {
        const layer = `layers.${i}`;
        const { mixed, after } = this.mixer(`${layer}.mixer`, x, before);
        const h = this.normed(`${layer}.mixer_norm`, this.settings.residual ? plus(mixed, x) : mixed);
        x = this.normed(`${layer}.feed_forward_norm`, plus(this.feedForward(layer, h), h));
        return after;
      });
      return { length: state.length + 1, layers, output: x };
    }

    /* The block of Mamba-2: h <- exp(dt A) h + dt u B^T, y = h C + D u, for each head. */
    mixer(name, x, before) {
      const { d_state: N, d_conv: taps, headdim: P } = this.settings;
      const w = this.weights;
      const projected = this.projected(`${name}.in_proj`, x); // gate z, then x, B and C, then dt
      const conv = new Float32Array(before.conv.length);
      const mixed = new Float64Array(this.channels);
      for (let c = 0; c < this.channels; c++) {
        let sum = w[`${name}.conv1d.bias`][c];
        for (let k = 0; k < taps; k++) {
          const at = c * taps + k;
          conv[at] = k < taps - 1 ? before.conv[at + 1] : projected[this.inner + c];
          sum += w[`${name}.conv1d.weight`][at] * conv[at];
        }
        mixed[c] = silu(sum);
      }
      const B = mixed.subarray(this.inner, this.inner + N);
      const C = mixed.subarray(this.inner + N);
      const ssm = new Float32Array(before.ssm.length);
      const y = new Float64Array(this.inner);
      for (let head = 0; head < this.heads; head++) {
        const dt = softplus(projected[this.inner + this.channels + head] + w[`${name}.dt_bias`][head]);
        const decay = Math.exp(-dt * Math.exp(w[`${name}.A_log`][head]));
        for (let p = head * P; p < (head + 1) * P; p++) {
          const added = dt * mixed[p];
          let sum = w[`${name}.D`][head] * mixed[p];
          for (let n = 0, at = p * N; n < N; n++, at++) {
            const h = decay * before.ssm[at] + added * B[n];
            ssm[at] = h;
            sum += h * C[n];
          }
          y[p] = sum * silu(projected[p]);
        }
      }
      let square = 0;
      for (const value of y) square += (value * value) / y.length;
      const scale = 1 / Math.sqrt(square + RMS_NORM_EPS);
      const gated = y.map((value, i) => value * scale * w[`${name}.norm.weight`][i]);
      return { mixed: this.projected(`${name}.out_proj`, gated), after: { conv, ssm } };
    }
  }

  class SASRec extends Recommender {
    start() {
      const layers = Array.from({ length: this.settings.n_layers }, () => ({ keys: [], values: [] }));
      return { length: 0, layers, output: null };
    }

    stateBytes(length) {
      return BYTES * this.settings.n_layers * 2 * this.settings.d_model * length;
    }

    /* Past the window positions start anew: only time and size mean anything there. */
    step(state, item) {
      const d = this.settings.d_model;
      const place = state.length % this.settings.window;
      const position = this.weights["position_embedding.weight"].subarray(place * d, (place + 1) * d);
      let x = this.normed("norm", plus(this.embedded(item), position));
      const layers = state.layers.map((before, i) => {
        const layer = `layers.${i}`;
        const { mixed, after } = this.attention(`${layer}.attention`, x, before, state.length);
        const h = this.normed(`${layer}.attention_norm`, plus(x, mixed));
        x = this.normed(`${layer}.feed_forward_norm`, plus(h, this.feedForward(layer, h)));
        return after;
      });
      return { length: state.length + 1, layers, output: x };
    }

    /* One query on the keys and values of all items so far. States share these arrays, and each reads the first `length`
       of them: of two states that follow the same one, only the later is good. */
    attention(name, x, { keys, values }, length) {
      const d = this.settings.d_model;
      const width = d / this.settings.n_heads;
      const qkv = this.projected(`${name}.qkv`, x);
      keys[length] = Float32Array.from(qkv.subarray(d, 2 * d));
      values[length] = Float32Array.from(qkv.subarray(2 * d));
      const mixed = new Float64Array(d);
      const shares = new Float64Array(length + 1);
      for (let start = 0; start < d; start += width) {
        let most = -Infinity;
        for (let t = 0; t <= length; t++) {
          let sum = 0;
          for (let j = start; j < start + width; j++) sum += qkv[j] * keys[t][j];
          shares[t] = sum / Math.sqrt(width);
          most = Math.max(most, shares[t]);
        }
        let total = 0;
        for (let t = 0; t <= length; t++) total += shares[t] = Math.exp(shares[t] - most);
        for (let t = 0; t <= length; t++)
          for (let j = start; j < start + width; j++) mixed[j] += (shares[t] / total) * values[t][j];
      }
      return { mixed: this.projected(`${name}.out`, mixed), after: { keys, values } };
    }
  }

  const CLASSES = { "2mamba4rec": TwoMamba4Rec, sasrec: SASRec };

  /* The model of a file that live_model.py wrote. */
  const build = (file) => new CLASSES[file.architecture](file);

  /* The k items of the highest scores that are not in the history, or, with `seen`, wherever they are. */
  function best(scores, k, history, seen) {
    const left = new Set(seen ? [] : history);
    const ids = Array.from(scores.keys()).filter((item) => item > 0 && !left.has(item));
    return ids.sort((a, b) => scores[b] - scores[a]).slice(0, k);
  }

  const library = { build, best, halves, erf };
  if (typeof module !== "undefined") module.exports = library;
  else root.SeqRec = library;
})(globalThis);
