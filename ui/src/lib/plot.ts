// What all plots have in common: colours and sizes that are those of the page, and axes that look alike.

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

/** What a custom property says now. */
export function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const TEXT: uPlot.Axis = { stroke: () => color('--soft'), font: '11px system-ui', ticks: { show: false } };

/** Below the plot. */
export const ACROSS: uPlot.Axis = { ...TEXT, size: 20, grid: { show: false } };

/** To the right of the plot, with lines across it. */
export const UPRIGHT: uPlot.Axis = { ...TEXT, size: 52, space: 34, side: 1, gap: 4, grid: { stroke: () => color('--line'), width: 1 } };

/** A plot as wide as `host`, drawn anew when the page turns dark or light. The function ends it. */
export function plotIn(host: HTMLElement, options: Omit<uPlot.Options, 'width'>, data: uPlot.AlignedData): [uPlot, () => void] {
  const plot = new uPlot({ ...options, width: host.clientWidth }, data, host);
  const observer = new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height: options.height }));
  observer.observe(host);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const redraw = () => plot.redraw();
  dark.addEventListener('change', redraw);
  return [
    plot,
    () => {
      observer.disconnect();
      dark.removeEventListener('change', redraw);
      plot.destroy();
    },
  ];
}
