mod kinds;
mod origins;
mod sections;
