// One dashboard of the repository, drawn with Grafana's own components from a live Prometheus.
// The address has ?dashboard=FILE&prometheus=URL&from=UNIX&to=UNIX&step=SECONDS. `window.drawn` tells that it is done.
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  FieldType,
  getFieldDisplayValues,
  getValueFormat,
  Registry,
  ThemeContext,
  toDataFrame,
} from "@grafana/data";
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from "@grafana/ui";
import { Component } from "react";
import { createRoot } from "react-dom/client";

const given = Object.fromEntries(new URLSearchParams(location.search));
const [from, to, step] = [given.from, given.to, given.step].map(Number);
const theme = createTheme({ colors: { mode: "dark" } });
const UNIT = { width: 66, height: 36, gap: 8 };
// As Grafana chooses them for a scrape interval of 5 s.
const VARIABLES = { $__rate_interval: `${Math.max(20, step + 5)}s`, $job: "app", $instance: "app|made-up-gpus" };
const FIELD_OPTIONS = ["unit", "min", "max", "decimals", "thresholds", "mappings", "color", "noValue"];
const LINE_OPTIONS = {
  drawStyle: "line",
  lineInterpolation: "linear",
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: "none",
  showPoints: "auto",
  pointSize: 5,
  spanNulls: false,
  stacking: { mode: "none", group: "A" },
  axisPlacement: "auto",
  axisSoftMax: undefined,
  scaleDistribution: { type: "linear" },
  thresholdsStyle: { mode: "off" },
};

function option(id, isCustom) {
  const path = isCustom ? id.slice("custom.".length) : id;
  return { id, path, isCustom, name: id, process: (value) => value, shouldApply: () => true };
}

const fieldOptions = new Registry(() => [
  ...FIELD_OPTIONS.map((id) => option(id, false)),
  ...Object.keys(LINE_OPTIONS).map((id) => option(`custom.${id}`, true)),
]);

async function ask(target) {
  let query = target.expr;
  for (const [name, value] of Object.entries(VARIABLES)) query = query.replaceAll(name, value);
  const span = target.instant ? { time: to } : { start: from, end: to, step };
  const path = target.instant ? "query" : "query_range";
  const response = await fetch(`${given.prometheus}/api/v1/${path}?${new URLSearchParams({ query, ...span })}`);
  const answer = await response.json();
  if (answer.status !== "success") throw new Error(`${query}: ${answer.error}`);
  return answer.data.result.map((series) => frame(target, series));
}

function frame(target, series) {
  const samples = new Map((series.values ?? [series.value]).map(([time, value]) => [time, Number(value)]));
  // A quantile or a share of nothing is NaN: a gap in a line.
  if (!target.instant) for (const [time, value] of samples) if (Number.isNaN(value)) samples.delete(time);
  const times = target.instant
    ? [to]
    : Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, n) => from + n * step);
  const values = times.map((time) => (target.instant ? [...samples.values()][0] : (samples.get(time) ?? null)));
  const name = target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, label) => series.metric[label] ?? "");
  return toDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: "Time", type: FieldType.time, values: times.map((time) => time * 1000) },
      { name: "Value", type: FieldType.number, values, labels: series.metric, config: { displayNameFromDS: name } },
    ],
  });
}

async function data(panel) {
  const frames = (await Promise.all(panel.targets.map(ask))).flat();
  const { defaults, overrides } = panel.fieldConfig;
  const color = { mode: panel.type === "stat" ? "thresholds" : "palette-classic" };
  return applyFieldOverrides({
    data: frames,
    fieldConfig: { overrides, defaults: { color, ...defaults, custom: { ...LINE_OPTIONS, ...defaults.custom } } },
    fieldConfigRegistry: fieldOptions,
    replaceVariables: (text) => text,
    theme,
    timeZone: "utc",
  });
}

function Stat({ panel, frames, width, height }) {
  const [found] = getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    timeZone: "utc",
  });
  const nothing = {
    text: panel.fieldConfig.defaults.noValue,
    numeric: Number.NaN,
    color: theme.colors.text.secondary,
  };
  const { colorMode, graphMode, justifyMode, textMode } = panel.options;
  const value = frames.length ? found.display : nothing;
  return <BigValue {...{ value, width, height, theme, colorMode, graphMode, justifyMode, textMode }} />;
}

function Lines({ panel, frames, width, height }) {
  const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: "", to: "" } };
  return (
    <TimeSeries
      frames={frames}
      legend={panel.options.legend}
      options={{}}
      structureRev={1}
      timeZone="utc"
      {...{ timeRange, width, height }}
    />
  );
}

/** Grafana's heatmap is in no package: cells of what each bucket has more than the one below it. */
function Heatmap({ panel, frames, width, height }) {
  const buckets = frames
    .map((each) => ({ le: Number(each.name.replace("+Inf", "Infinity")), values: each.fields[1].values }))
    .sort((one, other) => one.le - other.le);
  const rows = buckets.map(({ le, values }, row) => ({
    le,
    cells: values.map((value, n) => Math.max(0, (value ?? 0) - (buckets[row - 1]?.values[n] ?? 0))),
  }));
  const used = rows.map((row, n) => (row.cells.some((cell) => cell > 0.01) ? n : -1)).filter((n) => n >= 0);
  if (!used.length) return <p>no traffic</p>;
  const shown = rows.slice(Math.max(0, used[0] - 1), used.at(-1) + 2);
  const most = Math.max(...shown.flatMap((row) => row.cells));
  const format = getValueFormat(panel.options.yAxis.unit);
  const tall = (height - 8) / shown.length;
  const wide = (width - 70) / shown[0].cells.length;
  return (
    <svg height={height} width={width}>
      <title>{panel.title}</title>
      {shown.map((row, n) => (
        <g key={row.le} transform={`translate(0 ${height - 8 - (n + 1) * tall})`}>
          <text fill={theme.colors.text.secondary} fontSize="11" textAnchor="end" x="62" y={tall / 2 + 4}>
            {Number.isFinite(row.le) ? `≤ ${format(row.le).text}${format(row.le).suffix ?? ""}` : "more"}
          </text>
          {row.cells.map((cell, at) => {
            const time = from + at * step;
            return (
              <rect
                fill="#5794f2"
                height={tall - 1}
                key={time}
                opacity={cell / most}
                width={wide}
                x={70 + at * wide}
              />
            );
          })}
        </g>
      ))}
    </svg>
  );
}

function Table({ panel, frames }) {
  const organized = panel.transformations.find((each) => each.id === "organize");
  const hidden = Object.keys(organized.options.excludeByName);
  // Grafana's "merge" makes one row of what several queries tell of one instance.
  const labels = frames.map((each) => each.fields[1].labels);
  const rows = panel.targets.length > 1 ? [Object.assign({}, ...labels)] : labels;
  const columns = [...new Set(rows.flatMap(Object.keys))].filter((name) => !hidden.includes(name));
  return (
    <table style={{ width: "100%" }}>
      <thead>
        <tr>
          {columns.map((name) => (
            <th key={name}>{name}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={JSON.stringify(row)}>
            {columns.map((name) => (
              <td key={name}>{row[name]}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** One panel's failure is written into its place. */
class Guard extends Component {
  state = {};

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    return this.state.error ? <pre style={{ color: "red" }}>{String(this.state.error)}</pre> : this.props.children;
  }
}

const KINDS = { stat: Stat, timeseries: Lines, heatmap: Heatmap, table: Table };

function Panel({ panel, frames }) {
  const { x, y, w, h } = panel.gridPos;
  const [width, height] = [w * UNIT.width - UNIT.gap, h * UNIT.height - UNIT.gap];
  const style = { position: "absolute", left: x * UNIT.width, top: y * UNIT.height, width, height };
  if (panel.type === "row") return <h3 style={{ ...style, paddingTop: 4 }}>{panel.title}</h3>;
  const Kind = KINDS[panel.type];
  const words = panel.fieldConfig.defaults.noValue ?? "no data";
  return (
    <div style={style}>
      <PanelChrome height={height} title={panel.title} width={width}>
        {(innerWidth, innerHeight) =>
          frames.length || panel.type === "stat" ? (
            <Guard>
              <Kind frames={frames} height={innerHeight} panel={panel} width={innerWidth} />
            </Guard>
          ) : (
            <p style={{ color: theme.colors.text.secondary, textAlign: "center" }}>{words}</p>
          )
        }
      </PanelChrome>
    </div>
  );
}

async function draw() {
  const dashboard = await (await fetch(given.dashboard)).json();
  const filled = await Promise.all(
    dashboard.panels.map(async (panel) => ({ panel, frames: panel.type === "row" ? [] : await data(panel) })),
  );
  const height = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * UNIT.height;
  createRoot(document.getElementById("root")).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <main style={{ position: "relative", width: 24 * UNIT.width, height }}>
        {filled.map(({ panel, frames }) => (
          <Panel frames={frames} key={panel.id} panel={panel} />
        ))}
      </main>
    </ThemeContext.Provider>,
  );
  const empty = filled.filter(({ panel, frames }) => panel.type !== "row" && !frames.length);
  setTimeout(() => {
    window.drawn = empty.map(({ panel }) => panel.title);
  }, 1500); // the charts are drawn on canvases, which tell nobody when they are done
}

draw().catch((error) => {
  document.body.append(String(error.stack));
  window.drawn = [String(error)];
});
