// A door bell that takes its settings from aliciacfg: node service.mjs
//
// Its configuration is that of the service "door_bell", as `aliciacfg init` lays it out: settings.volume_percent,
// settings.melody, and the secret settings.camera_password.
import { follow } from "./aliciacfg.mjs";

const client = follow("door_bell", (config, message) => {
  if (config === null) {
    console.log("no configuration any more; the last one stays");
    return;
  }
  const { volume_percent: volume, camera_password: password } = config.settings ?? {};
  if (!(volume >= 0 && volume <= 100)) throw new Error("/settings/volume_percent has to be from 0 to 100");
  const camera = password === undefined ? "no camera" : password === "***" ? "a camera without its password" : "a camera";
  console.log(`revision ${message.revision}: volume ${volume}, ${camera}`);
});

client.on("error", (error) => console.error(`broker: ${error.message}`));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => client.end());
