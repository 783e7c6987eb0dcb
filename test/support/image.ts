import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { cp, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import dockerignore from '@balena/dockerignore';
import { type Copy, DockerfileParser, type From, type Instruction } from 'dockerfile-ast';

const run = promisify(execFile);

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
/** The user of the image. */
export const IMAGE_UID = 65_532;
const isRoot = process.getuid?.() === 0;

/** The settings of the last stage, with paths of the image. */
export interface Image {
  /** Where the image's files are: `/app` is `${root}/app`. */
  readonly root: string;
  readonly user: string;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly health: readonly string[];
  readonly stopSignal: string;
}

interface Stage {
  readonly root: string;
  workdir: string;
  readonly env: Record<string, string>;
  readonly said: Map<string, string>;
}

export const readDockerfile = (): Promise<string> => readFile(join(REPOSITORY, 'Dockerfile'), 'utf8');

/** The files of the repository that `.dockerignore` does not exclude. */
export async function buildContext(): Promise<string[]> {
  const rules = dockerignore
    .default({ ignorecase: false })
    .add(await readFile(join(REPOSITORY, '.dockerignore'), 'utf8'));
  const paths: string[] = [];
  for (const top of await readdir(REPOSITORY, { withFileTypes: true })) {
    // Other tests write there at the same time.
    if (['node_modules', 'dist'].includes(top.name) && rules.ignores(`${top.name}/any`)) continue;
    if (!top.isDirectory()) paths.push(top.name);
    else {
      const below = await readdir(join(REPOSITORY, top.name), { recursive: true, withFileTypes: true });
      const files = below.filter((entry) => !entry.isDirectory());
      paths.push(...files.map((entry) => join(entry.parentPath, entry.name).slice(REPOSITORY.length)));
    }
  }
  return paths.filter((path) => !rules.ignores(path)).sort();
}

/**
 * Carries out the Dockerfile in folders: a stage is a folder that stands for its root. The bases are not there, but for the
 * Node and the npm of this machine; so RUN may use those, and paths relative to WORKDIR. An instruction that this does not
 * know ends the test. Where the test is root, commands run as the image's user, for whom nothing of this machine is writable.
 */
export async function buildImage(scratch: string): Promise<Image> {
  const context = await buildContext();
  const stages = new Map<string, Stage>();
  let stage: Stage | null = null;
  for (const instruction of DockerfileParser.parse(await readDockerfile()).getInstructions()) {
    const keyword = instruction.getKeyword();
    if (keyword === 'FROM') {
      const from = instruction as From;
      const name = from.getBuildStage() ?? 'last';
      stage = await stageFrom(stages.get(String(from.getImage())), join(scratch, name));
      stages.set(name, stage);
    } else if (stage !== null) await carryOut(instruction, stage, stages, context, scratch);
  }
  if (stage === null) throw new Error('the Dockerfile has no stage');
  const { said } = stage;
  const list = (keyword: string) => JSON.parse(said.get(keyword) ?? '[]') as string[];
  return {
    root: stage.root,
    workdir: stage.workdir,
    env: stage.env,
    user: said.get('USER') ?? 'root',
    entrypoint: list('ENTRYPOINT'),
    cmd: list('CMD'),
    health: JSON.parse(/CMD (\[.*\])$/.exec(said.get('HEALTHCHECK') ?? '')?.[1] ?? '[]') as string[],
    stopSignal: said.get('STOPSIGNAL') ?? '',
  };
}

async function stageFrom(base: Stage | undefined, root: string): Promise<Stage> {
  await mkdir(root, { recursive: true });
  if (base !== undefined) await cp(base.root, root, { recursive: true });
  return { root, workdir: base?.workdir ?? '/', env: { ...base?.env }, said: new Map() };
}

async function carryOut(
  instruction: Instruction,
  stage: Stage,
  stages: ReadonlyMap<string, Stage>,
  context: readonly string[],
  scratch: string,
): Promise<void> {
  const keyword = instruction.getKeyword();
  const raw = instruction.getRawArgumentsContent() ?? '';
  switch (keyword) {
    case 'WORKDIR':
      stage.workdir = raw;
      await mkdir(join(stage.root, raw), { recursive: true });
      return;
    case 'ENV': {
      const [name = '', value = ''] = raw.split('=');
      stage.env[name] = value;
      return;
    }
    case 'COPY':
      return copy(instruction as Copy, stage, stages, context);
    case 'RUN':
      return runIn(stage, raw, scratch);
    case 'ARG':
    case 'LABEL':
    case 'EXPOSE':
      return;
    case 'USER':
    case 'STOPSIGNAL':
    case 'HEALTHCHECK':
    case 'ENTRYPOINT':
    case 'CMD':
      stage.said.set(keyword, raw);
      return;
    default:
      throw new Error(`the test cannot execute ${keyword}`);
  }
}

async function copy(
  instruction: Copy,
  stage: Stage,
  stages: ReadonlyMap<string, Stage>,
  context: readonly string[],
): Promise<void> {
  const [to = '', ...sources] = instruction
    .getArguments()
    .map((argument) => argument.getValue())
    .reverse();
  const from = instruction.getFromFlag()?.getValue();
  const target = join(stage.root, to.startsWith('/') ? '' : stage.workdir, to);
  for (const source of sources) {
    if (from !== undefined && from !== null) {
      const other = stages.get(from);
      if (other === undefined) throw new Error(`COPY --from=${from}: no such stage`);
      await cp(join(other.root, source), target, { recursive: true });
      continue;
    }
    const files = context.filter((path) => path === source || path.startsWith(`${source}/`));
    if (files.length === 0) throw new Error(`COPY ${source}: not in the build context`);
    for (const path of files) {
      // A file goes into a folder (`./`) or under a new name, a folder's content into the target.
      const inside = path === source ? (to.endsWith('/') ? join(target, path.split('/').at(-1) ?? '') : target) : '';
      const place = inside || join(target, path.slice(source.length + 1));
      await mkdir(dirname(place), { recursive: true });
      await cp(join(REPOSITORY, path), place);
    }
  }
}

async function runIn(stage: Stage, command: string, scratch: string): Promise<void> {
  const home = join(scratch, 'home');
  await mkdir(home, { recursive: true });
  if (isRoot) for (const path of [home, stage.root]) await run('chown', ['-R', `${IMAGE_UID}:${IMAGE_UID}`, path]);
  const cache = await npmCache(scratch);
  await run('sh', ['-c', command], {
    cwd: join(stage.root, stage.workdir),
    env: {
      ...process.env,
      ...stage.env,
      HOME: home,
      PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
      npm_config_userconfig: join(home, '.npmrc'),
      npm_config_cache: cache,
      npm_config_prefer_offline: 'true',
    },
    maxBuffer: 16 * 1024 ** 2,
    ...(isRoot && { uid: IMAGE_UID, gid: IMAGE_UID }),
  });
  // As after a build, files of an image belong to root.
  if (isRoot) await run('chown', ['-R', '0:0', stage.root]);
}

/** npm's cache of this machine, for the user of the image: two installations from the network take minutes. */
async function npmCache(scratch: string): Promise<string> {
  const own = (await run('npm', ['config', 'get', 'cache'], { cwd: REPOSITORY })).stdout.trim();
  if (!isRoot) return own;
  const copied = join(scratch, 'npm-cache');
  if (await isThere(copied)) return copied;
  await mkdir(copied);
  const packages = join(own, '_cacache');
  // Files in `tmp` belong to downloads of other npm processes.
  const filter = (path: string) => path !== join(packages, 'tmp');
  if (await isThere(packages)) await cp(packages, join(copied, '_cacache'), { recursive: true, filter });
  await run('chown', ['-R', `${IMAGE_UID}:${IMAGE_UID}`, copied]);
  return copied;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Makes the image read-only. If the test is not root, only this stops its user from writing. */
export async function seal(image: Image): Promise<void> {
  await run('chmod', ['-R', 'a-w', image.root]);
}

/**
 * Runs a command of the image as a container does: as its user, with no more rights to gain, and where the test is root with
 * every file system of this machine read-only.
 */
export function start(image: Image, command: readonly string[], env: Readonly<Record<string, string>>): ChildProcess {
  // The base's Node is this machine's.
  const [node, ...rest] = command;
  if (node !== '/nodejs/bin/node') throw new Error(`${node} is not in the base`);
  const args = rest.map((arg) => (arg.startsWith('/app/') ? join(image.root, arg) : arg));
  const options = { cwd: join(image.root, image.workdir), env: { ...image.env, ...env }, stdio: 'pipe' } as const;
  if (!isRoot) return spawn(process.execPath, args, options);
  const readOnly =
    'mount --make-rprivate / && mount -o remount,bind,ro / && uid=$1 && shift && exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --bounding-set=-all -- "$@"';
  const uid = image.user.split(':')[0] ?? '';
  return spawn('/usr/bin/unshare', ['-m', '/bin/sh', '-c', readOnly, 'sh', uid, process.execPath, ...args], options);
}
