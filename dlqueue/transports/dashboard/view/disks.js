// Disks: what is used, what is promised to running transfers, what stays free.
import { size } from "../format.js";
import { html } from "../html.js";
import { state } from "../state.js";

export function Disks() {
  const disks = state.overview?.disks ?? [];
  return html`<section class="card disks" aria-labelledby="disks">
    <h2 id="disks">Disks</h2>
    <ul>${disks.map((disk) => html`<${Disk} key=${disk.path} disk=${disk} />`)}</ul>
    ${disks.length > 0 && html`<p class="legend small muted"><i class="used"></i>used <i class="reserved"></i>reserved <i class="floor"></i>kept free</p>`}
  </section>`;
}

function Disk({ disk }) {
  const part = (bytes) => `${(100 * Math.max(bytes, 0)) / (disk.total || 1)}%`;
  const used = disk.total - disk.free;
  const reserved = Math.min(disk.reserved, disk.free);
  const floor = Math.min(disk.floor, disk.free - reserved);
  const said = `${size(disk.free)} of ${size(disk.total)} free, ${size(disk.reserved)} reserved, ${size(disk.floor)} kept free`;
  return html`<li class=${disk.low ? "low" : ""}>
    <div class="line"><span class="name" title=${disk.path}>${disk.path}</span><span class="num">${size(disk.free)} free</span></div>
    <div class="meter" role="img" aria-label=${said} title=${said}>
      <i class="used" style=${{ width: part(used) }}></i><i class="reserved" style=${{ width: part(reserved) }}></i><i class="gap"></i><i class="floor" style=${{ width: part(floor) }}></i>
    </div>
  </li>`;
}
