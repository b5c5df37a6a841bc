"use strict";
// The page of experiments.report: sliders, curves, and what is kept when it reloads itself.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const each = (selector, f) => document.querySelectorAll(selector).forEach(f);

  // ---- what a person has chosen survives a reload
  const place = "jaxgan-report:" + data.id;
  function keep() {
    const kept = {};
    each("input[id], select[id]", (x) => { kept[x.id] = x.type === "checkbox" ? x.checked : x.value; });
    each("details[id]", (x) => { kept[x.id] = x.open; });
    if (byId("step")) kept.atEnd = byId("step").value === byId("step").max;
    try { sessionStorage.setItem(place, JSON.stringify(kept)); } catch (error) { /* not allowed */ }
  }
  function recall() {
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(place));
      sessionStorage.removeItem(place);  // it is for this reload alone
    } catch (error) { /* not allowed */ }
    if (!kept) return;
    each("input[id], select[id]", (x) => {
      if (!(x.id in kept) || (x.id === "step" && kept.atEnd)) return;
      if (x.type === "checkbox") x.checked = kept[x.id]; else x.value = kept[x.id];
    });
    each("details[id]", (x) => { if (x.id in kept) x.open = kept[x.id]; });
  }
  recall();
  if (data.reload) setTimeout(() => { keep(); location.reload(); }, 1000 * data.reload);

  // ---- samples over time
  const slider = byId("step");
  const last = {};
  each("[data-frames] img", (image) => {
    last[image.parentNode.dataset.frames] = image.getAttribute("src");
  });
  function newest(frames, step) {
    let found = null;
    frames.forEach((frame, i) => { if (frame.step <= step) found = i; });
    return found;
  }
  function showStep() {
    const step = data.steps[+slider.value];
    const text = "step " + step.toLocaleString("en");
    byId("step-out").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    each("[data-frames]", (box) => {
      const frames = data.runs[+box.dataset.frames].frames, i = newest(frames, step);
      const frame = i === null ? null : frames[i];
      const image = box.querySelector("img"), list = box.querySelector("ol");
      box.querySelector(".at").textContent = frame
        ? "step " + frame.step.toLocaleString("en") : "no samples yet at this step";
      if (image) {
        image.style.visibility = frame && !frame.lines ? "visible" : "hidden";
        if (frame) {
          image.src = frame.uri || last[box.dataset.frames];
          image.alt = frame.alt;
        }
      }
      if (list) {
        list.replaceChildren(...((frame && frame.lines) || []).map((line) => {
          const item = document.createElement("li");
          item.textContent = line;
          return item;
        }));
      }
    });
  }
  if (slider) {
    slider.addEventListener("input", showStep);
    showStep();
    const play = byId("play");
    let timer = null;
    play.addEventListener("click", () => {
      if (timer) { clearInterval(timer); timer = null; } else {
        if (slider.value === slider.max) slider.value = 0;
        showStep();
        timer = setInterval(() => {
          slider.value = +slider.value + 1;
          showStep();
          if (slider.value === slider.max) { clearInterval(timer); timer = null; label(); }
        }, 500);
      }
      label();
    });
    const label = () => { play.textContent = timer ? "Stop" : "Play"; };
  }

  // ---- before and after
  each("input.cut", (input) => {
    const move = () => {
      input.closest("figure").querySelector(".compare").style.setProperty("--cut", input.value + "%");
    };
    input.addEventListener("input", move);
    move();
  });

  // ---- curves
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (i) => css("--c" + (i % 6));
  const number = (x) => (x === null || x === undefined || Number.isNaN(x)) ? "–"
    : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2)
      : x.toLocaleString("en", { maximumSignificantDigits: 5 });
  const charts = new Map();  // element -> uPlot

  function smoothed(values, weight) {
    let mean = 0, mass = 0;
    return values.map((x) => {
      if (x === null) return null;
      mean = weight * mean + (1 - weight) * x;
      mass = weight * mass + (1 - weight);
      return mean / mass;
    });
  }

  function axisOf(columns, axis) {
    const x = columns[axis] || columns.step;
    return axis === "seconds" && columns.seconds ? x.map((s) => s === null ? null : s / 3600) : x;
  }

  function tablesOf(chart, options) {
    const tables = [], series = [];
    data.runs.forEach((run, r) => {
      const columns = run[chart.kind], x = columns.step && axisOf(columns, options.axis);
      chart.names.forEach((name, n) => {
        if (!x || !columns[name]) return;
        const wide = columns[name + "/interval"];
        const weight = chart.kind === "train" ? options.smoothing : 0;
        const values = smoothed(columns[name], weight);
        const rows = [];
        x.forEach((at, i) => {
          if (at === null || values[i] === null || (options.logX && at <= 0)) return;
          if (options.logY && values[i] <= 0) return;
          rows.push([at, values[i], wide ? wide[i] : null]);
        });
        if (!rows.length) return;
        rows.sort((a, b) => a[0] - b[0]);
        const many = data.runs.length > 1;
        series.push({
          label: (many ? run.label + " " : "") + name,
          color: color(many ? r : n), dash: many && n ? [6, 4] : undefined, run: r,
          floor: run.floors[name], low: rows, few: rows.length < 40,
          between: new Map(rows.filter((row) => row[2]).map((row) => [row[0], row[2]])),
        });
        tables.push([rows.map((row) => row[0]), rows.map((row) => row[1])]);
      });
    });
    return { tables, series };
  }

  function limits(series, logY) {
    let low = Infinity, high = -Infinity;
    series.forEach((s) => {
      s.low.forEach(([, y, half]) => {
        const down = y - (half || 0);
        low = Math.min(low, logY && down <= 0 ? y : down);
        high = Math.max(high, y + (half || 0));
      });
      if (typeof s.floor === "number" && !(logY && s.floor <= 0)) {
        low = Math.min(low, s.floor);
        high = Math.max(high, s.floor);
      }
    });
    if (logY) return uPlot.rangeLog(low, high, 10, false);
    const pad = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
    return [low - pad, high + pad];
  }

  function marks(u, options) {
    const { ctx, bbox } = u, ratio = window.devicePixelRatio || 1;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    data.runs.forEach((run) => run.events.forEach((event) => {
      const ends = [event.step, event.until].map((step) => {
        const x = at(run, step, options.axis);
        return x === null || (options.logX && x <= 0) ? null : u.valToPos(x, "x", true);
      });
      if (ends[0] === null || ends[1] === null) return;
      ctx.strokeStyle = ctx.fillStyle = css(event.kind === "rollback" ? "--roll" : "--alarm");
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash(event.kind === "rollback" ? [] : [3 * ratio, 3 * ratio]);
      ctx.globalAlpha = 0.12;
      ctx.fillRect(ends[0], bbox.top, ends[1] - ends[0], bbox.height);
      ctx.globalAlpha = 0.9;
      ctx.beginPath();
      ctx.moveTo(ends[0], bbox.top);
      ctx.lineTo(ends[0], bbox.top + bbox.height);
      ctx.stroke();
    }));
    ctx.restore();
  }

  function at(run, step, axis) {
    const columns = run.train.step ? run.train : run.eval;
    if (axis === "step" || !columns[axis]) return step;
    const x = axisOf(columns, axis);
    let i = columns.step.findIndex((other) => other >= step);
    if (i < 0) i = x.length - 1;
    return x[i];
  }

  function extras(u, series) {
    const { ctx, bbox } = u, ratio = window.devicePixelRatio || 1;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    series.forEach((s) => {
      ctx.fillStyle = ctx.strokeStyle = s.color;
      if (s.between.size) {
        ctx.globalAlpha = 0.18;
        ctx.beginPath();
        const edge = (sign) => ([x, y, half]) =>
          [u.valToPos(x, "x", true), u.valToPos(y + sign * (half || 0), "y", true)];
        const way = [...s.low.map(edge(1)), ...s.low.map(edge(-1)).reverse()];
        way.filter((p) => p.every(Number.isFinite)).forEach((p) => ctx.lineTo(...p));
        ctx.fill();
      }
      if (typeof s.floor === "number") {
        const y = u.valToPos(s.floor, "y", true);
        ctx.globalAlpha = 0.8;
        ctx.lineWidth = ratio;
        ctx.setLineDash([2 * ratio, 4 * ratio]);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
      }
    });
    ctx.restore();
  }

  function optionsNow() {
    return {
      smoothing: byId("smooth") ? +byId("smooth").value : 0,
      axis: byId("axis") ? byId("axis").value : "step",
      logX: byId("log-x") ? byId("log-x").checked : false,
      logY: byId("log-y") ? byId("log-y").checked : false,
    };
  }

  const UNITS = { step: "step", seconds: "hours", epoch: "epoch" };

  function draw(element) {
    const chart = data.charts[+element.dataset.chart], options = optionsNow();
    const box = element.querySelector(".plot");
    if (charts.has(element)) charts.get(element).destroy();
    charts.delete(element);
    box.replaceChildren();
    const { tables, series } = tablesOf(chart, options);
    if (!tables.length) {
      box.textContent = "Nothing above 0 to draw on a logarithmic axis.";
      return;
    }
    const joined = tables.length > 1 ? uPlot.join(tables) : tables[0];
    const stroke = css("--soft"), grid = { stroke: css("--line"), width: 1 };
    const axis = { stroke, grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const values = (u, splits) => splits.map((x) => (x === null ? "" : number(x)));
    const plot = new uPlot({
      width: box.clientWidth, height: 220, pxAlign: false,
      cursor: { drag: { x: true, y: false }, points: { size: 7 } },
      scales: {
        x: { time: false, distr: options.logX ? 3 : 1 },
        y: { distr: options.logY ? 3 : 1, range: () => limits(series, options.logY) },
      },
      axes: [{ ...axis, values, size: 34 }, { ...axis, values, size: 62 }],
      series: [
        { label: UNITS[options.axis], value: (u, x) => number(x) },
        ...series.map((s) => ({
          label: s.label, stroke: s.color, width: 1.6, dash: s.dash, spanGaps: true,
          points: { show: s.few, size: 5, fill: s.color },
          value: (u, y, i, at) => {
            const half = at === null || at === undefined ? null : s.between.get(u.data[0][at]);
            const floor = typeof s.floor === "number" ? " (floor " + number(s.floor) + ")" : "";
            return number(y) + (half ? " ± " + number(half) : "") + floor;
          },
        })),
      ],
      hooks: {
        drawClear: [(u) => { extras(u, series); marks(u, options); }],
        ready: [(u) => u.setLegend({ idx: u.data[0].length - 1 })],
      },
    }, joined, box);
    plot.over && plot.over.addEventListener("mouseleave", () => {
      setTimeout(() => plot.setLegend({ idx: plot.data[0].length - 1 }), 0);
    });
    charts.set(element, plot);
  }

  function walk(element, event) {
    const plot = charts.get(element);
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 };
    if (!plot || !(event.key in moves)) return;
    event.preventDefault();
    const end = plot.data[0].length - 1;
    const from = element.dataset.at === undefined ? end : +element.dataset.at;
    const to = Math.max(0, Math.min(end, from + moves[event.key]));
    element.dataset.at = to;
    plot.setCursor({ left: plot.valToPos(plot.data[0][to], "x"), top: 10 });
    const told = plot.series.map((s, i) => i && plot.data[i][to] != null
      ? s.label + " " + number(plot.data[i][to]) : "").filter(Boolean);
    element.querySelector(".told").textContent =
      UNITS[optionsNow().axis] + " " + number(plot.data[0][to]) + ": " + told.join(", ");
  }

  const visible = (element) => element.clientWidth > 0;
  const drawAll = () => each(".chart", (element) => { if (visible(element)) draw(element); });
  each(".chart", (element) => element.addEventListener("keydown", (event) => walk(element, event)));
  each("details", (box) => box.addEventListener("toggle", () => {
    box.querySelectorAll(".chart").forEach((x) => { if (visible(x) && !charts.has(x)) draw(x); });
  }));
  ["smooth", "axis", "log-x", "log-y"].forEach((id) => {
    if (byId(id)) byId(id).addEventListener("input", () => {
      if (id === "smooth") byId("smooth-out").textContent = byId("smooth").value;
      drawAll();
    });
  });
  if (byId("smooth")) byId("smooth-out").textContent = byId("smooth").value;
  let wait = null;
  window.addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => charts.forEach((plot, element) => {
      const width = element.querySelector(".plot").clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: 220 });
    }), 100);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
