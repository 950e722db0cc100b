import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Desk } from "./desk";
import { type StringKey, t } from "./strings";
import type { GalleryCell } from "./types";

const KEYS: [string, StringKey][] = [
  ["j → / k ←", "key_next"],
  ["a", "key_agree"],
  ["1 … 9", "key_class"],
  ["x", "key_reject"],
  ["u", "key_unsure"],
  ["z / y, Ctrl+Z / Ctrl+Y", "key_undo"],
  ["n", "key_note"],
  ["d / r / m", "key_draw"],
  ["] / [", "key_slide"],
  ["h / c / b", "key_view"],
  ["Enter", "key_fly"],
  ["?", "key_help"],
];

export function Dialogs({ desk }: { desk: Desk }) {
  const asked = desk.dialog.value;
  const close = () => {
    if (asked?.name === "class") desk.look();
    desk.dialog.value = null;
  };
  if (asked?.name === "help") {
    return (
      <Dialog title={t("help")} onClose={close}>
        <table>
          <tbody>
            {KEYS.map(([keys, key]) => (
              <tr key={key}>
                <th scope="row">
                  <kbd>{keys}</kbd>
                </th>
                <td>{t(key)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Dialog>
    );
  }
  if (asked?.name === "note") return <NoteDialog desk={desk} cell={asked.cell} onClose={close} />;
  if (asked?.name === "class") {
    return (
      <Dialog title={t("drawn")} onClose={close}>
        <div class="verdicts">
          {desk.classes.map((one) => (
            <button
              key={one.name}
              type="button"
              data-testid={`drawn-${one.name}`}
              onClick={() => desk.addDrawn(one.name)}
            >
              <i class="swatch" style={{ background: one.color }} />
              {one.name} {one.key && <kbd>{one.key}</kbd>}
            </button>
          ))}
        </div>
      </Dialog>
    );
  }
  return null;
}

interface NoteProps {
  desk: Desk;
  cell: GalleryCell;
  onClose: () => void;
}

function NoteDialog({ desk, cell, onClose }: NoteProps) {
  const [text, setText] = useState(desk.reading.value?.cells[cell.key]?.note ?? "");
  const save = (event: Event) => {
    event.preventDefault();
    desk.note(cell, text);
    onClose();
  };
  return (
    <Dialog title={t("noteTitle")} onClose={onClose}>
      <form onSubmit={save}>
        <label>
          {t("note")}
          <textarea
            data-testid="note-text"
            rows={4}
            maxLength={2000}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <div class="row">
          <button type="submit" class="primary" data-testid="note-save">
            {t("save")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}

/** The browser's own modal dialog: it holds the focus, gives it back, and closes by Escape. */
function Dialog({ title, onClose, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog ref={element} aria-label={title} data-testid="dialog" onClose={onClose}>
      <h2>{title}</h2>
      {children}
      <button type="button" class="link" data-testid="dialog-close" onClick={onClose}>
        {t("close")}
      </button>
    </dialog>
  );
}
