mod kinds;
mod origins;
mod references;
mod sections;
